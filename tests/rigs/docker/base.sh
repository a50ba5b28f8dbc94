#!/bin/sh
# base.sh CACHE_DIR PIP_CONF [CA_BUNDLE]: makes what images are built from where no image registry is in reach, once: the
# smallest system of this machine's own release, and prints its tarball, CACHE_DIR/base-HASH.tar. The packages come from
# where apt has them from on this machine. pip looks for packages there as it does here.
set -eu

cache=$(mkdir -p "$1" && cd "$1" && pwd)
pip_conf=$2
bundle=${3:-}
. /etc/os-release
hash=$({ cat "$0" "$pip_conf" $bundle && echo "$VERSION_CODENAME" && dpkg --print-architecture; } | sha256sum | cut -c1-12)
tarball=$cache/base-$hash.tar

sources() {
    for origin in Debian Ubuntu; do
        apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' "Origin: $origin"
    done | grep " $VERSION_CODENAME\([ -]\)" || { echo "base.sh: apt knows no packages; run apt-get update" >&2; return 1; }
}

if [ ! -e "$tarball" ]; then
    echo "making a base for images: once" >&2
    work=$(mktemp -d "$cache/building-base.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    sources > "$work/sources.list"
    mkdir -p "$work/etc/ssl" "$work/etc/dpkg/dpkg.cfg.d"
    cp "$pip_conf" "$work/etc/pip.conf"
    [ -z "$bundle" ] || cp "$bundle" "$work/etc/ssl/machine.pem"
    echo force-unsafe-io > "$work/etc/dpkg/dpkg.cfg.d/image" # as in the usual base images
    $([ "$(id -u)" = 0 ] || echo sudo) mmdebstrap --quiet --variant=minbase \
        --customize-hook="cp -R $work/etc/. \"\$1/etc/\"" \
        "$VERSION_CODENAME" "$work/root.tar" "$work/sources.list" >&2
    mv "$work/root.tar" "$tarball"
fi
echo "$tarball"
