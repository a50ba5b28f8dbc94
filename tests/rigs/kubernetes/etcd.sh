#!/bin/sh
# etcd.sh CACHE_DIR: downloads the distribution's etcd, once, and prints its path. It is not installed: a service that
# nobody asked for would start. Not root, unless package lists must be read.
set -eu

cache=$(mkdir -p "$1" && cd "$1" && pwd)

download() {
    # apt's own user may not write here; as root it would complain, so root stays root.
    apt-get download -qq -o APT::Sandbox::User=root etcd-server >&2
}

fetch() {
    # Lists that were never read know no etcd, and old ones know one that is gone.
    download 2> complaint || { update && download; }
    dpkg-deb -x etcd-server_*.deb unpacked
    mkdir etcd
    cp unpacked/usr/bin/etcd etcd/
}

update() {
    echo "reading package lists" >&2
    $([ "$(id -u)" = 0 ] || echo sudo) apt-get update -qq
}

if [ ! -d "$cache/etcd" ]; then
    work=$(mktemp -d "$cache/fetching.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    fetch
    # Somebody else may have been faster.
    mv -T etcd "$cache/etcd" 2>/dev/null || [ -d "$cache/etcd" ]
fi
echo "$cache/etcd/etcd"
