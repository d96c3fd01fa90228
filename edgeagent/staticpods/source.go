package staticpods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// pollInterval is how soon a changed file is noticed. One look at a folder costs
	// some microseconds, and unlike inotify it works on every file system.
	pollInterval = 2 * time.Second
	// maxFile is more than any pod; the API server takes no more either.
	maxFile = 1 << 20
	// maxPod is what a report to the cloud has room for, which is to hold the status,
	// too.
	maxPod = 96 << 10
	// maxFiles bounds what a folder of something else could do.
	maxFiles = 256
	// writableByOthers are the modes with which a file may be anybody's.
	writableByOthers = 0o022
)

// Config is what a Source needs.
type Config struct {
	// Dir holds the files. One that does not exist holds none; it may come later.
	Dir string
	// NodeName is this node. Required, as is Dir.
	NodeName string
	// Wake is called with the key of each pod that came, changed or went. May be nil.
	Wake func(key string)
	// Changed is called with the UIDs of all pods by key, when they are first known and
	// whenever they change, before Wake; not while there is an Unread. May be nil.
	Changed func(uids map[string]string)
	// Log may be nil, which discards.
	Log *slog.Logger
}

// ErrUnread says that the disk did not give all that there is, or that the folder is
// refused: what is missing may be a pod that runs.
var ErrUnread = errors.New("static pods are not all read")

// Source is the pods of a folder.
type Source struct {
	cfg    Config
	folder fs.FS

	mu       sync.Mutex // guards the following fields
	stamps   map[string]stamp
	unread   map[string]error       // by file name, of which no pod is known; "" is the folder
	files    map[string]*corev1.Pod // by file name: the last good one
	problems map[string]string      // by file name; "" is the folder
	pods     map[string]*corev1.Pod // by key
	doubles  []string               // files whose problem is that of another has their pod
}

// stamp tells versions of a file apart.
type stamp struct {
	modTime time.Time
	size    int64
	mode    fs.FileMode
}

// New reads the folder once, so that its pods are there when the others are.
func New(cfg Config) (*Source, error) {
	if cfg.Dir == "" || cfg.NodeName == "" {
		return nil, errors.New("static pods: Dir and NodeName are required")
	}
	if cfg.Wake == nil {
		cfg.Wake = func(string) {}
	}
	if cfg.Changed == nil {
		cfg.Changed = func(map[string]string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := newSource(cfg, os.DirFS(cfg.Dir))
	s.poll()
	return s, nil
}

func newSource(cfg Config, folder fs.FS) *Source {
	return &Source{cfg: cfg, folder: folder, files: map[string]*corev1.Pod{}, problems: map[string]string{}}
}

// Run follows the folder until ctx ends. A nil Source has none.
func (s *Source) Run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var told map[string]string
	var changed []string
	for {
		// First which there are: by that is judged what the pods say when they are woken.
		if now := s.uids(); s.Unread() == nil && (told == nil || !maps.Equal(now, told)) {
			s.cfg.Changed(now)
			told = now
		}
		for _, key := range changed {
			s.cfg.Wake(key)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		changed = s.poll()
	}
}

// Pod gives the pod under a key pods/NAMESPACE/NAME. It is shared: do not change
// it.
func (s *Source) Pod(key string) (*corev1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod, ok := s.pods[key]
	return pod, ok
}

// Pods gives all pods. They are shared: do not change them.
func (s *Source) Pods() []*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.pods))
}

func (s *Source) uids() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string, len(s.pods))
	for key, pod := range s.pods {
		out[key] = string(pod.UID)
	}
	return out
}

// Problems says what is wrong with which file, a line each.
func (s *Source) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.problems)) {
		out = append(out, filepath.Join(s.cfg.Dir, name)+": "+s.problems[name])
	}
	return out
}

// Unread gives an ErrUnread as long as the disk has not said of each file that is
// there, or was when this source began, which pod it is. A folder that was refused from
// the beginning has said nothing.
func (s *Source) Unread() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.unread)) {
		return fmt.Errorf("%w: %w", ErrUnread, s.unread[name])
	}
	return nil
}

// poll reads what has changed, and gives the keys of pods that have.
func (s *Source) poll() []string {
	seen, err := s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.problemLocked("", err) // what runs, runs on: a folder may come back
		if s.pods == nil {       // none is known, and some may run
			s.unread = map[string]error{"": err}
		}
		return nil
	}
	s.fineLocked("")
	s.unread = map[string]error{}
	s.forgetLocked(seen)
	for name, err := range seen.failed {
		s.failedLocked(name, err)
	}
	for name, st := range seen.stamps {
		if st == s.stamps[name] {
			continue
		}
		pod, err := s.read(name, st)
		switch {
		case err == nil:
			s.fineLocked(name)
			s.files[name] = pod
		case errors.Is(err, fs.ErrNotExist):
			delete(seen.stamps, name) // gone since; the next look tells
		case unreadable(err):
			delete(seen.stamps, name) // to be tried again
			s.failedLocked(name, err)
		default:
			s.problemLocked(name, err)
		}
	}
	s.stamps = seen.stamps
	return s.mergeLocked()
}

// unreadable says whether it is the disk that has failed, not the file that is bad.
func unreadable(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// failedLocked notes a file of which the disk does not say what it is.
func (s *Source) failedLocked(name string, err error) {
	s.problemLocked(name, err)
	if s.files[name] == nil {
		s.unread[name] = err
	}
}

// forgetLocked drops what is known of files that are gone.
func (s *Source) forgetLocked(seen looked) {
	gone := func(name string) bool {
		_, ok := seen.stamps[name]
		return !ok && seen.failed[name] == nil
	}
	maps.DeleteFunc(s.files, func(name string, _ *corev1.Pod) bool { return gone(name) })
	maps.DeleteFunc(s.problems, func(name, _ string) bool { return gone(name) })
}

// mergeLocked makes the pods of the files, and gives the keys of those that have
// changed. Of two files with one pod the first by name counts.
func (s *Source) mergeLocked() []string {
	pods := map[string]*corev1.Pod{}
	from := map[string]string{}
	doubles := s.doubles
	s.doubles = nil
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		pod := s.files[name]
		key := "pods/" + pod.Namespace + "/" + pod.Name
		if first, ok := from[key]; ok {
			s.problemLocked(name, fmt.Errorf("pod %s/%s is that of %s too", pod.Namespace, pod.Name, first))
			s.doubles = append(s.doubles, name)
			continue
		}
		pods[key], from[key] = pod, name
	}
	for _, name := range doubles {
		if !slices.Contains(s.doubles, name) && s.files[name] != nil {
			s.fineLocked(name)
		}
	}
	var changed []string
	for key, pod := range pods {
		if old := s.pods[key]; old == nil || old.UID != pod.UID {
			changed = append(changed, key)
			s.cfg.Log.Info("static pod", "namespace", pod.Namespace, "pod", pod.Name, "file", from[key])
		}
	}
	for key := range s.pods {
		if pods[key] == nil {
			changed = append(changed, key)
			s.cfg.Log.Info("static pod is gone", "key", key)
		}
	}
	s.pods = pods
	slices.Sort(changed)
	return changed
}

func (s *Source) problemLocked(name string, err error) {
	if text := err.Error(); s.problems[name] != text {
		s.problems[name] = text
		s.cfg.Log.Error("static pod can't be used", "file", filepath.Join(s.cfg.Dir, name), "error", text)
	}
}

func (s *Source) fineLocked(name string) { delete(s.problems, name) }

// looked is what a look at the folder gives.
type looked struct {
	stamps map[string]stamp
	failed map[string]error // files that are there, and no more is known
}

// look lists the files that should be pods.
func (s *Source) look() (looked, error) {
	seen := looked{map[string]stamp{}, map[string]error{}}
	info, err := fs.Stat(s.folder, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return seen, nil
	}
	if err != nil {
		return seen, fmt.Errorf("look for static pods: %w", err)
	}
	if info.Mode()&writableByOthers != 0 {
		return seen, fmt.Errorf("mode %v lets others than its owner write: whoever puts a pod here is root on this machine", info.Mode())
	}
	entries, err := fs.ReadDir(s.folder, ".")
	if err != nil {
		return seen, fmt.Errorf("look for static pods: %w", err)
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			continue
		}
		info, err := fs.Stat(s.folder, e.Name()) // a link counts as what it leads to
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since, or leading nowhere
		case err != nil:
			seen.failed[e.Name()] = err
		case !info.IsDir():
			seen.stamps[e.Name()] = stamp{info.ModTime(), info.Size(), info.Mode()}
		}
		if len(seen.stamps)+len(seen.failed) > maxFiles {
			return seen, fmt.Errorf("there are more than %d files", maxFiles)
		}
	}
	return seen, nil
}

func (s *Source) read(name string, st stamp) (*corev1.Pod, error) {
	switch {
	case !st.mode.IsRegular():
		return nil, fmt.Errorf("it is no file but %v", st.mode.Type())
	case st.mode&writableByOthers != 0:
		return nil, fmt.Errorf("mode %v lets others than its owner write", st.mode)
	case st.size > maxFile:
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", st.size, maxFile)
	}
	b, err := fs.ReadFile(s.folder, name)
	if err != nil {
		return nil, err
	}
	pod, err := parse(b)
	if err != nil {
		return nil, err
	}
	return place(pod, s.cfg.NodeName, name, st.modTime)
}
