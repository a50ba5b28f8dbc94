#!/bin/sh
# enter.sh ROOT PIP_CACHE SCRIPT: runs a shell script as root in the system below ROOT, by chroot, with /proc, /dev and /sys.
# It has this machine's network, and its pip keeps what it fetched in PIP_CACHE. Whatever the script leaves running ends with
# it, and what is mounted is seen by nothing else.
set -eu

root=$1
if [ "${4:-}" != inside ]; then
    exec unshare --mount --pid --fork --kill-child "$0" "$1" "$2" "$3" inside
fi

mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind -o ro /sys "$root/sys"
mkdir -p "$root/root/.cache/pip"
mount --bind "$2" "$root/root/.cache/pip"
PATH=$PATH:/usr/sbin exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    sh -ec "$3"
