// Package cgroup2 runs the tests of pods, and of their control groups, on a machine of
// its own: a virtual one with Debian's kernel, cgroup v2, a systemd that is process 1,
// and this machine's files beneath a layer that is forgotten. The processor is emulated,
// so it needs nothing of this machine's but root and ten minutes. It runs with
// SKERRY_E2E in the environment, and leaves nothing.
package cgroup2
