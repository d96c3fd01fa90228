#!/bin/bash
# box.sh MODE DIR: what runs on each side of the namespaces' border.
#   outer  puts itself into groups of its own and makes the namespaces
#   init   mounts what a machine has, and becomes systemd
#   inner  starts containerd as a unit and runs the tests
#   clean  removes the groups
set -eu
mode=$1 dir=$2
controllers="cpu cpuacct cpuset memory devices freezer blkio pids"

# group is where the machine's groups of a hierarchy are: below ours.
group() {
  local name=$1
  [ "$name" = systemd ] && name=name=systemd
  echo "/sys/fs/cgroup/$1$(awk -F: -v n="$name" '$2 == n { print $3 }' /proc/self/cgroup)/skerry-systemd"
}

case $mode in
outer)
  for h in $controllers systemd; do
    own=$(group "$h")
    mkdir -p "$own"
    if [ "$h" = cpuset ]; then
      cat "$own/../cpuset.cpus" > "$own/cpuset.cpus"
      cat "$own/../cpuset.mems" > "$own/cpuset.mems"
    fi
    echo $$ > "$own/cgroup.procs"
  done
  exec unshare --mount --cgroup --pid --ipc --uts --net --fork --kill-child "$0" init "$dir"
  ;;
init)
  mount --make-rprivate /
  mount -t proc proc /proc
  mount -t tmpfs -o mode=755 tmpfs /run
  umount -l /sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for c in $controllers; do
    mkdir "/sys/fs/cgroup/$c"
    mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c"
  done
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
  # One unit of our own, so that none of this machine's starts in here.
  mkdir -p /run/systemd/system
  printf '[Unit]\nDescription=Tests\nDefaultDependencies=no\n' > /run/systemd/system/box.target
  export container=skerry
  exec /lib/systemd/systemd --system --unit=box.target --log-target=console --show-status=0
  ;;
inner)
  socket=$dir/containerd.sock
  ip link set lo up
  echo 1 > /proc/sys/net/ipv4/ip_forward
  systemd-run --quiet --unit=box-containerd -p DefaultDependencies=no -p Delegate=yes -p KillMode=process \
    containerd --config "$dir/config.toml"
  for _ in $(seq 100); do ctr -a "$socket" version > /dev/null 2>&1 && break; sleep 0.2; done
  ctr -a "$socket" -n k8s.io images import "$dir/busybox.tar"
  export SKERRY_SYSTEMD_TEST=1 SKERRY_CRI_TEST_SOCKET=$socket
  "$dir/units.test" -test.v -test.run '^TestReal'
  "$dir/pods.test" -test.v -test.run '^TestReal'
  ;;
clean)
  for h in $controllers systemd; do
    own=$(group "$h")
    [ ! -d "$own" ] || find "$own" -depth -type d -exec rmdir {} +
  done
  ;;
esac
