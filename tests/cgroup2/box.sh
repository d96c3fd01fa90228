#!/bin/bash
# box.sh MODE DIR [KERNEL]: a virtual machine for one runtime.
#   outer  makes its disk and runs it; its console is DIR/console.log
#   init   is run by the kernel, in busybox, with nothing there: makes a root of this
#          machine's files and a layer in memory
#   pid1   becomes systemd
#   inner  starts containerd and runs the tests, by systemd's groups and by its own
mode=$1 dir=$2 kernel=${3-}
case $mode in
outer)
  set -euo pipefail
  version=$(basename "$kernel"/lib/modules/*)
  initrd=$(mktemp -d)
  trap 'rm -rf "$initrd"; [ -z "${files-}" ] || kill "$files" 2> /dev/null || true' EXIT
  mkdir "$initrd"/{bin,dev,proc,sys,lower,upper,root,modules}
  cp /bin/busybox "$initrd/bin/"
  cp "$0" "$initrd/box.sh"
  printf '#!/bin/busybox sh\nexec /bin/busybox sh /box.sh init %q %q\n' "$dir" "$kernel" > "$initrd/init"
  chmod +x "$initrd/init"
  modprobe -d "$kernel" -S "$version" --show-depends --all virtio_pci virtio_blk virtiofs overlay |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
    cp "$module" "$initrd/modules/"
    basename "$module" >> "$initrd/modules/order"
  done
  (cd "$initrd" && find . | cpio --quiet -o -H newc | gzip -1) > "$dir.initrd"
  # On a disk, since the layer in memory can be no layer of a container, and its files
  # can't be mapped to other owners.
  mke2fs -q -t ext4 -d "$dir" "$dir.disk" 2G
  /usr/lib/qemu/virtiofsd --socket-path="$dir/fs.sock" -o source=/ -o cache=always -o sandbox=chroot -f > "$dir/files.log" 2>&1 &
  files=$!
  for _ in $(seq 100); do [ -S "$dir/fs.sock" ] && break; sleep 0.1; done
  qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 3G -no-reboot -nic none -display none \
    -object memory-backend-memfd,id=memory,size=3G,share=on -numa node,memdev=memory \
    -chardev "socket,id=files,path=$dir/fs.sock" -device vhost-user-fs-pci,chardev=files,tag=files \
    -drive "file=$dir.disk,format=raw,if=virtio" -serial "file:$dir/console.log" -serial stdio \
    -kernel "$kernel"/boot/vmlinuz-* -initrd "$dir.initrd" -append "console=ttyS0 panic=-1 hugepages=8" < /dev/null
  ;;
init)
  export PATH=/bin
  /bin/busybox --install -s /bin
  set -e
  mount -t devtmpfs dev /dev
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  while read -r module; do insmod "/modules/$module"; done < /modules/order
  mount -t virtiofs -o ro files /lower
  mount -t tmpfs layer /upper
  mkdir /upper/files /upper/work
  mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /root
  mkdir -p /root/usr/lib/modules
  mount --bind "/lower$kernel/lib/modules" /root/usr/lib/modules
  mount -t ext4 /dev/vda "/root$dir"
  for d in dev proc sys; do mount --move "/$d" "/root/$d"; done
  exec switch_root /root "$dir/box.sh" pid1 "$dir"
  ;;
pid1)
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  mount -t tmpfs -o mode=755 tmpfs /run
  # Two units of our own, so that none of this machine's starts in here.
  mkdir -p /run/systemd/system
  printf '[Unit]\nDescription=Tests\nDefaultDependencies=no\nRequires=box.service\n' > /run/systemd/system/box.target
  printf '[Unit]\nDefaultDependencies=no\nSuccessAction=poweroff-immediate\nFailureAction=poweroff-immediate\n[Service]\nType=oneshot\nExecStart=%s inner %s\nStandardOutput=file:/dev/ttyS1\nStandardError=inherit\n' \
    "$dir/box.sh" "$dir" > /run/systemd/system/box.service
  exec /lib/systemd/systemd --system --unit=box.target --log-target=console --show-status=0
  ;;
inner)
  set -u
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
  modprobe --all overlay veth bridge br_netfilter nft_compat xt_comment xt_MASQUERADE iptable_nat ip6table_nat
  ip link set lo up
  echo 1 > /proc/sys/net/ipv4/ip_forward
  export SKERRY_CRI_TEST_SOCKET=$dir/containerd.sock TMPDIR=$dir/tmp
  mkdir -m 1777 "$TMPDIR"
  status=0
  # All is allowed by it but to write one file.
  apparmor_parser --replace --skip-cache <<< 'profile skerry-test flags=(attach_disconnected,mediate_deleted) {
    file, network, capability, signal, ptrace, mount, umount, deny /denied w,
  }' || status=1
  # containerd CONFIG TEST...: run the tests beside a containerd of its own.
  with() {
    local config=$1 test
    shift
    systemd-run --quiet --unit="box-$config" -p DefaultDependencies=no -p Delegate=yes -p KillMode=process \
      -p Environment="PATH=$dir/bin:$PATH" "$dir/bin/containerd" --config "$dir/$config.toml" || status=1
    for _ in $(seq 300); do ctr -a "$SKERRY_CRI_TEST_SOCKET" version > /dev/null 2>&1 && break; sleep 0.2; done
    ctr -a "$SKERRY_CRI_TEST_SOCKET" -n k8s.io images import "$dir/busybox.tar" || status=1
    for test; do
      "$dir/$test" -test.v -test.run "$TESTS" || status=1
    done
    systemctl stop "box-$config"
  }
  TESTS='^TestReal'
  echo "kernel $(uname -r), $(stat -f -c %T /sys/fs/cgroup) with $(cat /sys/fs/cgroup/cgroup.controllers)"
  echo "groups by systemd"
  SKERRY_SYSTEMD_TEST=1 with systemd units.test pods.test
  echo "groups by file"
  with cgroupfs pods.test
  echo "the tests have ended with status $status"
  ;;
esac
