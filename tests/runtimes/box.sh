#!/bin/bash
# box.sh MODE DIR: a machine of its own for one runtime, as far as namespaces go.
#   outer  makes the namespaces; whatever is left in them dies with them
#   inner  starts the containerd and the runc of DIR/bin and runs the tests
set -eu
mode=$1 dir=$2
case $mode in
outer)
  exec unshare --mount --pid --ipc --uts --net --fork --kill-child --mount-proc "$0" inner "$dir"
  ;;
inner)
  socket=$dir/containerd.sock
  mount -t tmpfs -o mode=755 tmpfs /run
  ip link set lo up
  echo 1 > /proc/sys/net/ipv4/ip_forward
  PATH=$dir/bin:$PATH
  containerd --config "$dir/config.toml" > "$dir/containerd.log" 2>&1 &
  for _ in $(seq 100); do ctr -a "$socket" version > /dev/null 2>&1 && break; sleep 0.2; done
  ctr -a "$socket" -n k8s.io images import "$dir/busybox.tar" || { cat "$dir/containerd.log"; exit 1; }
  SKERRY_CRI_TEST_SOCKET=$socket "$dir/pods.test" -test.v -test.run "$TESTS"
  ;;
esac
