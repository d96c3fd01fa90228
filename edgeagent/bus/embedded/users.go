package embedded

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/edgeagent/bus"
)

// Bounds of the users' file.
const (
	maxFile     = 1 << 20
	maxUsers    = 256
	maxFilters  = 64
	maxName     = 128
	maxPassword = 72 // of bcrypt
	maxCost     = 13 // half a second of a small machine
)

// watchInterval is how often the file is looked at.
const watchInterval = 5 * time.Second

// Rights are what somebody may do: filters of topics, as MQTT has them. Below skerry/
// only commands may be published, whatever the filters say.
type Rights struct {
	Subscribe []string `json:"subscribe,omitempty"`
	Publish   []string `json:"publish,omitempty"`
}

// User is one entry of the file.
type User struct {
	// Name is what the client says.
	Name string `json:"name"`
	// PasswordHash is of bcrypt, as `htpasswd -nbB NAME PASSWORD` prints after the colon.
	PasswordHash string `json:"passwordHash"`

	Rights `json:",inline"`
}

// UsersFile says who may do what. Nobody else may connect.
type UsersFile struct {
	// Anonymous are the rights of clients without a user name; without it there are
	// no such clients.
	Anonymous *Rights `json:"anonymous,omitempty"`
	Users     []User  `json:"users,omitempty"`
}

// account is a User as long as the file says the same.
type account struct {
	User

	mu   sync.Mutex // guards the following field
	good []byte     // digest of the password that was right last
}

// accounts are those of one version of the file.
type accounts struct {
	anonymous *account // nil: none
	byName    map[string]*account
	any       *account // whose hash takes the time for names that nobody has, nil: none
}

// ParseUsers reads the file's text.
func ParseUsers(text []byte) (UsersFile, error) {
	var f UsersFile
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return f, err
	}
	if len(f.Users) > maxUsers {
		return f, fmt.Errorf("%d users, %d are the most", len(f.Users), maxUsers)
	}
	if f.Anonymous != nil {
		if err := f.Anonymous.check(); err != nil {
			return f, fmt.Errorf("anonymous: %w", err)
		}
	}
	seen := make(map[string]bool)
	for i, u := range f.Users {
		cost, err := bcrypt.Cost([]byte(u.PasswordHash))
		switch {
		case u.Name == "" || len(u.Name) > maxName:
			return f, fmt.Errorf("users[%d]: name must have 1 to %d bytes", i, maxName)
		case seen[u.Name]:
			return f, fmt.Errorf("users[%d]: there is another user %q", i, u.Name)
		case err != nil:
			return f, fmt.Errorf("user %q: passwordHash is not of bcrypt; make one with: htpasswd -nbB %s PASSWORD", u.Name, u.Name)
		case cost > maxCost:
			return f, fmt.Errorf("user %q: passwordHash has cost %d, which takes this machine too long; %d is the most", u.Name, cost, maxCost)
		}
		if err := u.check(); err != nil {
			return f, fmt.Errorf("user %q: %w", u.Name, err)
		}
		seen[u.Name] = true
	}
	return f, nil
}

func (r Rights) check() error {
	for field, list := range map[string][]string{"subscribe": r.Subscribe, "publish": r.Publish} {
		if len(list) > maxFilters {
			return fmt.Errorf("%s: %d filters, %d are the most", field, len(list), maxFilters)
		}
		for _, filter := range list {
			if !bus.ValidFilter(filter) {
				return fmt.Errorf("%s: %q is no filter of topics such as skerry/plant/+/value/#", field, filter)
			}
		}
	}
	return nil
}

func covered(by []string, filter string) bool {
	for _, b := range by {
		if bus.Covers(b, filter) {
			return true
		}
	}
	return false
}

// users follow the file.
type users struct {
	path string
	log  *slog.Logger
	key  [32]byte      // of the digests, this process' own
	turn chan struct{} // capacity 1: one hash is computed at a time

	mu    sync.Mutex // guards the following fields
	now   *accounts
	stamp string // of the file that now is of
	bad   string // of the file that can't be used
}

// loadUsers fails if the file can't be used.
func loadUsers(path string, log *slog.Logger) (*users, error) {
	u := &users{path: path, log: log, turn: make(chan struct{}, 1), now: &accounts{}}
	_, _ = rand.Read(u.key[:]) // never fails
	if _, err := u.reload(); err != nil {
		return nil, err
	}
	return u, nil
}

// reload reads the file if it is another one, and reports whether it was.
func (u *users) reload() (bool, error) {
	text, stamp, err := u.read()
	if err != nil {
		return false, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if stamp == u.stamp || stamp == u.bad {
		return false, nil
	}
	f, err := ParseUsers(text)
	if err != nil {
		u.bad = stamp
		return false, fmt.Errorf("users of the local bus: %s: %w", u.path, err)
	}
	u.now, u.stamp, u.bad = newAccounts(f, u.now), stamp, ""
	return true, nil
}

func newAccounts(f UsersFile, before *accounts) *accounts {
	next := &accounts{byName: make(map[string]*account)}
	if f.Anonymous != nil {
		next.anonymous = keep(&account{User: User{Rights: *f.Anonymous}}, before.anonymous)
	}
	for _, user := range f.Users {
		a := keep(&account{User: user}, before.byName[user.Name])
		next.byName[user.Name], next.any = a, a
	}
	return next
}

// keep gives the account of before if the file says the same, so that its clients stay.
func keep(next, before *account) *account {
	if before != nil && fmt.Sprint(next.User) == fmt.Sprint(before.User) {
		return before
	}
	return next
}

func (u *users) read() (text []byte, stamp string, err error) {
	f, err := os.Open(u.path)
	if err != nil {
		return nil, "", fmt.Errorf("users of the local bus: %w: bus.usersFile must name a file that says who may connect", err)
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("users of the local bus: %w", err)
	case !st.Mode().IsRegular():
		return nil, "", fmt.Errorf("users of the local bus: %s is no regular file", u.path)
	case st.Mode().Perm()&0o007 != 0:
		return nil, "", fmt.Errorf("users of the local bus: %s can be used by everybody on this machine (mode %04o): chmod 0600 %s", u.path, st.Mode().Perm(), u.path)
	case st.Size() > maxFile:
		return nil, "", fmt.Errorf("users of the local bus: %s has %d bytes, %d are the most", u.path, st.Size(), maxFile)
	}
	if text, err = io.ReadAll(io.LimitReader(f, maxFile)); err != nil {
		return nil, "", fmt.Errorf("users of the local bus: %w", err)
	}
	sum := sha256.Sum256(text)
	return text, string(sum[:]), nil
}

// watch follows the file until ctx ends. What can't be used changes nothing.
func (u *users) watch(ctx context.Context, changed func()) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		news, err := u.reload()
		switch {
		case err != nil && err.Error() != last:
			last = err.Error()
			u.log.Error("users of the local bus stay as they were", "error", err)
		case news:
			last = ""
			u.log.Info("users of the local bus have changed", "file", u.path)
			changed()
		}
	}
}

// current reports that an account is still what the file says.
func (u *users) current(a *account) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return a != nil && (a == u.now.anonymous || a == u.now.byName[a.Name])
}

var errCredentials = errors.New("user name or password is wrong")

// authenticate finds who a client is. It takes the time of a hash, but for a password that
// was right before.
func (u *users) authenticate(name string, password []byte) (*account, error) {
	u.mu.Lock()
	now := u.now
	u.mu.Unlock()
	if name == "" && len(password) == 0 {
		if now.anonymous == nil {
			return nil, errors.New("a user name is needed: the users' file has no entry anonymous")
		}
		return now.anonymous, nil
	}
	a := now.byName[name]
	digest := sha256.Sum256(append(u.key[:], password...))
	if a != nil {
		a.mu.Lock()
		same := subtle.ConstantTimeCompare(a.good, digest[:]) == 1
		a.mu.Unlock()
		if same {
			return a, nil
		}
	}
	of := a
	if of == nil {
		of = now.any
	}
	if of == nil || len(password) > maxPassword {
		return nil, errCredentials
	}
	u.turn <- struct{}{}
	err := bcrypt.CompareHashAndPassword([]byte(of.PasswordHash), password)
	<-u.turn
	if err != nil || a == nil {
		return nil, errCredentials
	}
	a.mu.Lock()
	a.good = digest[:]
	a.mu.Unlock()
	return a, nil
}
