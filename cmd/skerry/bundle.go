package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Bounds of one file of a bundle, and of what one command may take.
const (
	maxBundleFile  = 8 << 20
	commandTimeout = 20 * time.Second
)

// bundle collects files. What can't be had becomes a file that says why: half a
// bundle helps more than none.
type bundle struct {
	files []bundleFile
	// secret are patterns that no file may hold.
	secret []*regexp.Regexp
}

type bundleFile struct {
	name string
	data []byte
}

// newBundle knows what secrets look like. Nothing is collected that should hold one;
// this is for the slip, such as a token in an error text.
func newBundle() (*bundle, error) {
	b := &bundle{}
	for _, p := range []string{
		`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`,                                                     // bootstrap tokens
		`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*KEY-----|\z)`,           // keys
		`\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`,                   // JSON web tokens
		`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/._~-]{8,}=*`,                                    // headers
		`(?i)\b(password|passwd|secret|token|api[_-]?key)["']?\s*[=:]\s*["']?[^\s"',;]{6,}`, // assignments
	} {
		r, err := regexp.Compile(p)
		if err != nil {
			return nil, err
		}
		b.secret = append(b.secret, r)
	}
	return b, nil
}

const redacted = "[REDACTED]"

func (b *bundle) add(name string, data []byte) {
	if len(data) > maxBundleFile { // the end of a log tells more than its beginning
		data = append([]byte("[...]\n"), data[len(data)-maxBundleFile:]...)
	}
	for _, r := range b.secret {
		data = r.ReplaceAll(data, []byte(redacted))
	}
	b.files = append(b.files, bundleFile{name, data})
}

// try adds what get gives, or why it gives nothing.
func (b *bundle) try(name string, get func() ([]byte, error)) {
	data, err := get()
	if err != nil {
		b.add(name+".error", []byte(err.Error()+"\n"))
	}
	if len(data) > 0 {
		b.add(name, data)
	}
}

// object adds an object as YAML.
func (b *bundle) object(name string, get func() (any, error)) {
	b.try(name, func() ([]byte, error) {
		v, err := get()
		if err != nil {
			return nil, err
		}
		return yaml.Marshal(v)
	})
}

// command adds what a command writes.
func (b *bundle) command(ctx context.Context, name string, args ...string) {
	b.try(name, func() ([]byte, error) {
		path, err := lookPath(args[0])
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		return exec.CommandContext(ctx, path, args[1:]...).CombinedOutput()
	})
}

// file adds a file of this machine.
func (b *bundle) file(name, path string) {
	b.try(name, func() ([]byte, error) { return os.ReadFile(path) })
}

// write writes all as a tar.gz with one folder.
func (b *bundle) write(w io.Writer, folder string, now time.Time) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, f := range b.files {
		h := &tar.Header{Name: folder + "/" + f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: now, Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func newSupportBundle() *cobra.Command { return supportBundleCommand(newEnds()) }

func supportBundleCommand(e *ends) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Collect what others need to help, without secrets, into one file",
		Long: `Collect what others need to help into one tar.gz: what 'skerry doctor' says, versions,
configuration, states of pods and nodes, events, and logs of the agent or of the proxy.
It looks at one end; run it at both when both may matter.

It holds no secrets: no Secret is read, keys are not, and of pods only their state, not
their environment, arguments or ConfigMaps. What looks like a token or a key in a log is
blacked out. It does hold names and addresses. Read it before you hand it on.`,
		Example: "  # on an edge\n  sudo skerry support-bundle\n\n  # with a kubeconfig\n  skerry support-bundle -o proxy.tar.gz",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.collect(cmd, output)
		},
	}
	e.addFlags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file`; default skerry-support-DATE.tar.gz here, \"-\" is standard output")
	return cmd
}

func (e *ends) collect(cmd *cobra.Command, output string) error {
	ctx := cmd.Context()
	checks, err := e.checks()
	if err != nil {
		return err
	}
	b, err := newBundle()
	if err != nil {
		return err
	}
	now := time.Now()
	progress := func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), "collecting "+what) }
	b.add("version.txt", fmt.Appendf(nil, "skerry %s %s %s/%s\n%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, now.UTC().Format(time.RFC3339)))
	progress("what skerry doctor says")
	var report bytes.Buffer
	examine(ctx, checks, func(line string) { fmt.Fprintln(&report, line) })
	b.add("doctor.txt", report.Bytes())
	if e.onEdge() {
		e.collectEdge(ctx, b, progress)
	} else if err := e.collectCloud(ctx, b, progress); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	folder := "skerry-support-" + now.UTC().Format("20060102-150405")
	if output == "-" {
		return b.write(cmd.OutOrStdout(), folder, now)
	}
	if output == "" {
		output = folder + ".tar.gz"
	}
	f, err := os.OpenFile(output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := errors.Join(b.write(f, folder, now), f.Close()); err != nil {
		return fmt.Errorf("write the bundle: %w", errors.Join(err, os.Remove(output)))
	}
	if abs, err := filepath.Abs(output); err == nil {
		output = abs
	}
	fmt.Fprintln(cmd.OutOrStdout(), "wrote "+output)
	return nil
}

// podState is a pod without what people put into it: environment, arguments and
// annotations may hold secrets.
func podState(p *corev1.Pod) map[string]any {
	type container struct {
		Name, Image string
		Resources   corev1.ResourceRequirements `json:"resources,omitzero"`
	}
	var list []container
	for _, c := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
		list = append(list, container{c.Name, c.Image, c.Resources})
	}
	status := p.Status.DeepCopy()
	// What a container wrote when it ended may be anything.
	for _, all := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range all {
			for _, end := range []*corev1.ContainerStateTerminated{all[i].State.Terminated, all[i].LastTerminationState.Terminated} {
				if end != nil && end.Message != "" {
					end.Message = redacted
				}
			}
		}
	}
	return map[string]any{
		"name": p.Name, "namespace": p.Namespace, "uid": p.UID, "node": p.Spec.NodeName, "created": p.CreationTimestamp,
		"deleted": p.DeletionTimestamp, "owners": p.OwnerReferences, "priority": p.Spec.Priority, "hostNetwork": p.Spec.HostNetwork,
		"containers": list, "status": status,
	}
}

// bare is metadata without what tools put into it: kubectl keeps in an annotation all
// that was ever applied.
func bare(m *metav1.ObjectMeta) {
	m.ManagedFields = nil
	delete(m.Annotations, corev1.LastAppliedConfigAnnotation)
}

// indented is JSON for people.
func indented(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }
