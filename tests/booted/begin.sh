#!/bin/sh
# Inside new mount, PID, network, UTS, IPC and cgroup namespaces: make LOWER with all changes in UPPER the root, with
# SHARE at /run/bench and CHECKOUT at /root/voicemeet-edge, and become its systemd.
# Usage: begin.sh FOLDER LOWER SHARE CHECKOUT
set -eu
folder=$1 lower=$2 share=$3 checkout=$4
root=$folder/root
# One address beside loopback: without, the hub waits for its network, and rightly.
ip link set lo up
ip tuntap add dev eth0 mode tap
ip address add 192.0.2.10/24 dev eth0
ip link set eth0 up
ip route add default via 192.0.2.1
hostname booted

mount --make-rprivate /
mkdir -p "$root" "$folder/upper" "$folder/work"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# What is the machine's own stays as it is: systemd would set the kernel's limits, and udev its devices.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/run/bench" "$root/root/voicemeet-edge"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$share" "$root/run/bench"
mount --bind "$checkout" "$root/root/voicemeet-edge"
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
rmdir /old
# As systemd finds it: what a service is given by mounts (its credentials) is made in another namespace.
mount --make-rshared /
exec env -i container=voicemeet PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --log-target=journal --show-status=no
