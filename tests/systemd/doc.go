// Package systemd runs the tests of pods, and of their control groups, on a machine
// whose containerd and runc make control groups by systemd: a real systemd is process 1
// of namespaces made for that, with groups of cgroup v1 below its own. It needs root,
// runs with SKERRY_E2E in the environment, and touches nothing outside but groups
// called skerry-systemd.
package systemd
