#!/bin/sh
# boot.sh TARBALL FOLDER: boots the system in TARBALL with its own systemd, in namespaces of its own and a part of the control
# groups that is its alone, without a network. It is unpacked into memory, and gone when its first process ends.
# FOLDER is there as /run/host; systemd says on the socket FOLDER/notify when it has booted.
set -eu

if [ "${3:-}" != inside ]; then
    group=$(findmnt -rnt cgroup2 -o TARGET | head -1)/vmpower-$$
    mkdir "$group"
    echo $$ > "$group/cgroup.procs"
    echo "$group" > "$2/group"
    exec unshare --mount --pid --fork --uts --ipc --cgroup --net --kill-child "$0" "$1" "$2" inside
fi

mount --make-rprivate /
root=$2/root
mkdir -p "$root"
mount -t tmpfs -o mode=755 root "$root"
tar -xf "$1" -C "$root" --exclude='./dev/*' --numeric-owner
mount -t proc proc "$root/proc"
# What systemd sets there at boot is not this machine's alone.
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/host"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount --bind "$2" "$root/run/host"
echo debian > "$root/etc/hostname"
cd "$root"
pivot_root . mnt
umount -l /mnt
# As on a real machine: what systemd mounts for a unit (its credentials) is seen by the unit's processes.
mount --make-rshared /
exec env -i container=vmpower NOTIFY_SOCKET=/run/host/notify PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=journal --show-status=0
