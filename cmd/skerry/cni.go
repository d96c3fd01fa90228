package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/certs"
)

// cniFile is the network of an edge that has none: a bridge. A reset removes it, by
// this name and what is in it.
const cniFile = "10-skerry.conflist"

const cniName = "skerry-bridge"

// cniPlugins are those that it names, and loopback, which every runtime runs.
func cniPlugins() []string { return []string{"bridge", "host-local", "portmap", "loopback"} }

// cniSubnets are tried in turn: one that no device of this machine has. Pods of one
// edge do not reach those of another, so all may have the same.
func cniSubnets() []string { return []string{"10.88.0.0/24", "172.30.88.0/24", "192.168.188.0/24"} }

// cniLink is a link in the state directory to the network that a join has written: which
// folder the runtime reads is the runtime's to say, and it may be gone when a reset asks.
const cniLink = "network"

// network says what is to be done about the pods' network: a default is written into a
// directory, if one is given back, when the runtime has none and nobody has configured one.
func (h hostFacts) network(s runtimeState) (dir, note string, err error) {
	if s.networkReady {
		return "", "the runtime has it", nil
	}
	conf, bin := cmp.Or(s.cniConf, h.cniConf), h.cniBin
	if len(s.cniBin) > 0 {
		bin = s.cniBin
	}
	if name := cniConfig(conf); name != "" {
		return "", "", warn("%s is there, and the runtime says: %s", name, s.reason)
	}
	missing := slices.DeleteFunc(cniPlugins(), func(plugin string) bool { return hasPlugin(bin, plugin) })
	if len(missing) > 0 {
		return "", "", fmt.Errorf("there is none, and the CNI plugins %s are in none of %s: install containernetworking-plugins, or a CNI of your choice",
			strings.Join(missing, ", "), strings.Join(bin, ", "))
	}
	if _, err := freeSubnet(); err != nil {
		return "", "", err
	}
	return conf, "there is none: a bridge will be written to " + filepath.Join(conf, cniFile), nil
}

// cniConfig is a network that somebody has configured in dir.
func cniConfig(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
			return filepath.Join(dir, e.Name())
		}
	}
	return ""
}

func hasPlugin(dirs []string, name string) bool {
	for _, dir := range dirs {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

func freeSubnet() (netip.Prefix, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, s := range cniSubnets() {
		subnet, err := netip.ParsePrefix(s)
		if err != nil {
			return subnet, err
		}
		clash := false
		for _, a := range taken {
			p, err := netip.ParsePrefix(a.String())
			clash = clash || err == nil && p.Overlaps(subnet)
		}
		if !clash {
			return subnet, nil
		}
	}
	return netip.Prefix{}, errors.New("there is none, and this machine is in all of the networks that a default could have: configure a CNI")
}

// writeNetwork writes the default into dir, and remembers it in the state directory. The
// undo takes it away, with the directories that it made.
func writeNetwork(dir, stateDir string) (name string, undo func() error, err error) {
	subnet, err := freeSubnet()
	if err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": %q,
  "plugins": [
    {
      "type": "bridge",
      "bridge": "skerry0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, cniName, subnet)
	var made []string
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		}
		made = append(made, d)
	}
	name = filepath.Join(dir, cniFile)
	link := filepath.Join(stateDir, cniLink)
	undo = func() error {
		err := errors.Join(removeIfThere(name), removeIfThere(link))
		for _, d := range made {
			removeIfEmpty(d)
		}
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, errors.Join(fmt.Errorf("make CNI directory: %w", err), undo())
	}
	// The link first: no network is written that a reset would not find.
	err = errors.Join(removeIfThere(link), os.Symlink(name, link))
	if err == nil {
		err = certs.WriteFileAtomic(name, []byte(text), 0o644)
	}
	if err != nil {
		return "", nil, errors.Join(err, undo())
	}
	return name, undo, nil
}

func removeIfThere(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ownNetwork is the network that a join has written, if it is still there and ours.
func (h hostFacts) ownNetwork(stateDir string) (name string, ours bool) {
	name, err := os.Readlink(filepath.Join(stateDir, cniLink))
	if err != nil || filepath.Base(name) != cniFile || !filepath.IsAbs(name) {
		name = filepath.Join(h.cniConf, cniFile)
	}
	data, err := os.ReadFile(name)
	return name, err == nil && strings.Contains(string(data), `"`+cniName+`"`)
}
