package cgroups

import "testing"

// The names are those that runc's systemd driver makes of cri's cgroupsPath
// SLICE:cri-containerd:ID, and the kubelet of its own CgroupName.
func TestLayout(t *testing.T) {
	const uid = "0b5c2b6e-3c3c-4c6a-9d4d-2f5a5b1c7f10"
	fs, sd := Layout{Root: "/kubepods", Driver: Cgroupfs}, Layout{Root: "/kubepods", Driver: Systemd}
	nested := Layout{Root: "/skerry-lab/e1", Driver: Systemd}
	for _, c := range []struct{ got, want string }{
		{fs.Group(), "/kubepods"},
		{fs.Group(""), "/kubepods"},
		{fs.Group("burstable"), "/kubepods/burstable"},
		{fs.Pod("", uid), "/kubepods/pod" + uid},
		{fs.Pod("besteffort", uid), "/kubepods/besteffort/pod" + uid},
		{Layout{Root: "/kubepods"}.Pod("", uid), "/kubepods/pod" + uid},
		{fs.Containers("/p", "abc")[0], "/p/abc"},

		{sd.Group(), "/kubepods.slice"},
		{sd.Group("", ""), "/kubepods.slice"},
		{sd.Group("burstable"), "/kubepods.slice/kubepods-burstable.slice"},
		{sd.Pod("", uid), "/kubepods.slice/kubepods-pod0b5c2b6e_3c3c_4c6a_9d4d_2f5a5b1c7f10.slice"},
		{sd.Pod("burstable", uid), "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0b5c2b6e_3c3c_4c6a_9d4d_2f5a5b1c7f10.slice"},
		{sd.Containers("/p.slice", "abc")[0], "/p.slice/cri-containerd-abc.scope"},

		{nested.Group(), "/skerry_lab.slice/skerry_lab-e1.slice"},
		{nested.Group("besteffort"), "/skerry_lab.slice/skerry_lab-e1.slice/skerry_lab-e1-besteffort.slice"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestLayoutPodUID(t *testing.T) {
	const uid = "0b5c2b6e-3c3c-4c6a-9d4d-2f5a5b1c7f10"
	for _, c := range []struct {
		driver     Driver
		name, want string
	}{
		{Cgroupfs, "pod" + uid, uid},
		{Cgroupfs, "burstable", ""},
		{Systemd, "kubepods-burstable-pod0b5c2b6e_3c3c_4c6a_9d4d_2f5a5b1c7f10.slice", uid},
		{Systemd, "kubepods-pod0b5c2b6e_3c3c_4c6a_9d4d_2f5a5b1c7f10.slice", uid},
		{Systemd, "kubepods-burstable.slice", ""},
		{Systemd, "cri-containerd-pod1.scope", ""},
		{Systemd, "", ""},
	} {
		if got, ok := (Layout{Driver: c.driver}).PodUID(c.name); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s %q: got %q %v, want %q", c.driver, c.name, got, ok, c.want)
		}
	}
}

// TestOther: what a former agent called groups with the other driver.
func TestOther(t *testing.T) {
	for _, c := range []struct {
		driver Driver
		want   string
	}{
		{"", "/skerry.slice/skerry-podu1.slice"},
		{Cgroupfs, "/skerry.slice/skerry-podu1.slice"},
		{Systemd, "/skerry/podu1"},
	} {
		if got := (Layout{Root: "/skerry", Driver: c.driver}).Other().Pod("", "u1"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.driver, got, c.want)
		}
	}
}
