#!/bin/sh
# root.sh CACHE_DIR: makes a small system of this machine's own release, with packages.txt, once, and prints its tarball:
# CACHE_DIR/debian-HASH.tar. The packages come from where apt has them from on this machine, by mmdebstrap: debootstrap would
# have to be told a mirror, and goes past apt's own configuration. Needs package lists (apt-get update), and root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$(mkdir -p "$1" && cd "$1" && pwd)
. /etc/os-release
hash=$({ cat "$here/root.sh" "$here/packages.txt" && echo "$VERSION_CODENAME" && dpkg --print-architecture; } |
    sha256sum | cut -c1-12)
tarball=$cache/debian-$hash.tar

sources() {
    for origin in Debian Ubuntu; do
        apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' "Origin: $origin"
    done | grep " $VERSION_CODENAME\([ -]\)" || { echo "root.sh: apt knows no packages; run apt-get update" >&2; return 1; }
}

if [ ! -e "$tarball" ]; then
    work=$(mktemp -d "$cache/building-debian.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    sources > "$work/sources.list"
    $([ "$(id -u)" = 0 ] || echo sudo) mmdebstrap --quiet --variant=minbase \
        --include="$(grep -v '^#' "$here/packages.txt" | paste -sd,)" \
        "$VERSION_CODENAME" "$work/root.tar" "$work/sources.list" >&2
    mv "$work/root.tar" "$tarball"
fi
echo "$tarball"
