#!/bin/sh
# build.sh CACHE_DIR PYTHON [DIST_DIR]: makes a Debian package of the wheel in DIST_DIR beside it, and prints its name.
# Without DIST_DIR it only sees to the libraries, and prints where they are. PYTHON has pip. It is made by dpkg-deb, which
# every Debian has, and not by nfpm, which would be one more program to build: the package is a tree and a few files.
#
# The libraries are those of requirements/*.txt, in an environment of the distribution's own Python that lives at
# /opt/vmpower; so the package is for the release of Debian or Ubuntu that it was made on, and its Depends says so. They
# are installed once for each set of requirements, into CACHE_DIR/deb-HASH, where they are as they will be in /opt/vmpower.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
cache=$(mkdir -p "$1" && cd "$1" && pwd)
pip=$2
python=/usr/bin/python3
lists="$tree/requirements/app.txt $tree/requirements/libvirt.txt"

hash=$({ cat "$here/build.sh" $lists && "$python" -V && dpkg-query -W libvirt-dev && dpkg --print-architecture; } |
    sha256sum | cut -c1-12)
libraries=$cache/deb-$hash
work=$(mktemp -d "$cache/building-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT

# compile ROOT FOLDER: here, for the programs may not write there; with the paths that the files will have.
compile() {
    "$python" -m compileall -q -s "$1" -p / --invalidation-mode unchecked-hash "$2"
}

install_into() {
    root=$1
    shift
    "$pip" -m pip --python "$root/opt/vmpower/bin/python" --quiet --disable-pip-version-check install --no-compile \
        --no-warn-script-location "$@"
}

# What the libraries need of the distribution, as dpkg-shlibdeps tells it.
needed() {
    mkdir "$work/debian"
    printf 'Source: vmpower\n\nPackage: vmpower\nArchitecture: any\n' > "$work/debian/control"
    (cd "$work" && find "$1/opt" -name '*.so*' -type f -exec dpkg-shlibdeps -O {} + 2> shlibdeps.log) |
        sed -n 's/^shlibs:Depends=//p' | grep . || { cat "$work/shlibdeps.log" >&2; return 1; }
}

make_libraries() {
    new=$work/libraries
    mkdir -p "$new/opt"
    "$python" -m venv --without-pip --symlinks "$new/opt/vmpower"
    install_into "$new" --require-hashes -r "$tree/requirements/app.txt" -r "$tree/requirements/libvirt.txt"
    # What they bring as commands is not ours to offer.
    find "$new/opt/vmpower/bin" -type f -delete
    sed -i '/^command = /d' "$new/opt/vmpower/pyvenv.cfg"
    compile "$new" "$new/opt/vmpower/lib"
    needed "$new" > "$new/depends"
    mv -T "$new" "$libraries" 2>/dev/null || [ -d "$libraries" ]
}

[ -d "$libraries" ] || make_libraries
[ $# = 3 ] || { echo "$libraries"; exit 0; }

dist=$(cd "$3" && pwd)
wheel=$(ls "$dist"/vmpower-*.whl)
version=$(basename "$wheel" | cut -d- -f2)
architecture=$(dpkg --print-architecture)
root=$work/root
mkdir -p "$root/DEBIAN"
cp -al "$libraries/opt" "$root/opt"

install_into "$root" --no-index --no-deps "$wheel"
sed -i '1s,.*,#!/opt/vmpower/bin/python -I,' "$root"/opt/vmpower/bin/vmpower*
site=$(echo "$root"/opt/vmpower/lib/python3*/site-packages)
rm "$site"/vmpower-*.dist-info/direct_url.json
for part in $(cat "$site"/vmpower-*.dist-info/top_level.txt); do compile "$root" "$site/$part"; done
mkdir -p "$root/usr/bin"
for command in vmpower vmpower-provider vmpower-controller; do
    ln -s "/opt/vmpower/bin/$command" "$root/usr/bin/$command"
done

install -d "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
cp -r "$tree"/packaging/systemd/*.service "$tree"/packaging/systemd/*.service.d "$root/usr/lib/systemd/system/"
cp "$tree/packaging/systemd/sysusers.conf" "$root/usr/lib/sysusers.d/vmpower.conf"
cp "$tree/packaging/systemd/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/vmpower.conf"
install -d "$root/etc/vmpower/manifests"
install -m 644 "$tree"/packaging/conf/*.conf "$root/etc/vmpower/"
install -d "$root/usr/share/man/man1" "$root/usr/share/doc/vmpower/examples"
gzip -9n < "$tree/packaging/man/vmpower.1" > "$root/usr/share/man/man1/vmpower.1.gz"
for command in vmpower-provider vmpower-controller; do ln -s vmpower.1.gz "$root/usr/share/man/man1/$command.1.gz"; done
cp "$tree"/docs/*.md "$tree/LICENSE" "$root/usr/share/doc/vmpower/"
cp "$tree/LICENSE" "$root/usr/share/doc/vmpower/copyright"
gzip -9n < "$tree/CHANGELOG.md" > "$root/usr/share/doc/vmpower/changelog.gz"
cp "$tree"/examples/*.yaml "$root/usr/share/doc/vmpower/examples/"

minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$(du -sk "$root" | cut -f1)/" \
    -e "s/@PYTHON@/python3 (>= 3.$minor~), python3 (<< 3.$((minor + 1))~)/; s/@LIBRARIES@/$(cat "$libraries/depends")/" \
    "$here/control" > "$root/DEBIAN/control"
(cd "$root" && find etc -type f -printf '/%p\n' | LC_ALL=C sort) > "$root/DEBIAN/conffiles"
(cd "$root" && find opt usr -type f -exec md5sum {} +) > "$root/DEBIAN/md5sums"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$root/DEBIAN/"

package=$dist/vmpower_${version}_${architecture}.deb
dpkg-deb --root-owner-group -Zzstd -z3 --build "$root" "$package" > /dev/null
echo "$package"
