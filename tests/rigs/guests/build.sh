#!/bin/sh
# build.sh CACHE_DIR: builds the guest's vmlinuz and initrd.gz, once, and prints the directory they are in.
# That is CACHE_DIR/guests-HASH, of what went in from here: a changed script builds anew beside the old one.
# The kernel is the distribution's own for clouds and so is the guest agent; nothing is installed. Needs what
# packages.txt says and package lists (apt-get update), not root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$(mkdir -p "$1" && cd "$1" && pwd)
hash=$(cd "$here" && cat build.sh init say go-down shutdown | sha256sum | cut -c1-12)
image=$cache/guests-$hash
# Debian keeps depmod and modprobe in sbin, which not everyone has in PATH.
export PATH="$PATH:/usr/sbin:/sbin"

download() {
    # apt's own user may not write here; as root it would complain, so root stays root.
    apt-get download -qq -o APT::Sandbox::User=root "$@" >&2
}

kernel_packages() {
    kernel=$(apt-cache depends linux-image-cloud-amd64 linux-image-virtual 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
    [ -n "$kernel" ] || { echo "build.sh: apt knows no kernel; run apt-get update" >&2; exit 1; }
    echo "$kernel"
    # Ubuntu has the modules in a package of their own.
    apt-cache show "linux-modules-${kernel#linux-image-}" 2>/dev/null | awk '$1 == "Package:" { print $2; exit }'
}

# Each of them with what it needs, in the order in which they load; those built into the kernel are left out.
copy_modules() {
    version=$(ls "unpacked$1")
    depmod -b "unpacked${1%/lib/modules}" "$version"
    mkdir root/modules
    for name in virtio_pci virtio_console button evdev pvpanic-mmio; do
        modprobe -d "unpacked${1%/lib/modules}" -S "$version" --show-depends "$name"
    done > loads
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' loads > modules
    while read -r module; do
        case $module in
        *.zst) zstd -dc "$module" ;;
        *.xz) xz -dc "$module" ;;
        *) cat "$module" ;;
        esac > "root/modules/$(basename "$module" | sed 's/\.ko.*//')"
    done < modules
    sed 's,.*/,,; s/\.ko.*//' modules > root/modules/order
}

# Copies a program's libraries to where it looks for them.
copy_libraries() {
    ldd "$1" | grep -q 'not found' && { echo "build.sh: a library of $1 is missing:" >&2; ldd "$1" >&2; exit 1; }
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "root$(dirname "$library")"
        cp -L "$library" "root$library"
    done
}

build() {
    packages=$(kernel_packages)
    download $packages qemu-guest-agent
    for package in *.deb; do dpkg-deb -x "$package" unpacked; done
    mkdir -p root/bin root/dev root/proc root/sys root/run root/tmp root/sbin root/etc
    copy_modules "$([ -d unpacked/usr/lib/modules ] && echo /usr/lib/modules || echo /lib/modules)"
    cp unpacked/usr/sbin/qemu-ga root/bin/
    copy_libraries unpacked/usr/sbin/qemu-ga
    cp /bin/busybox root/bin/
    # This busybox has no bash of its own; its shell will do for what hooks write.
    printf '#!/bin/busybox sh\nexec /bin/busybox sh "$@"\n' > root/bin/bash
    cp "$here/init" root/
    cp "$here/say" "$here/go-down" root/bin/
    cp "$here/shutdown" root/sbin/
    chmod 755 root/init root/bin/bash root/bin/say root/bin/go-down root/sbin/shutdown
    mkdir image
    (cd root && find .) > files
    (cd root && cpio -o -H newc -R 0:0 --quiet) < files > initrd
    gzip -9n < initrd > image/initrd.gz
    cp unpacked/boot/vmlinuz-* image/vmlinuz
    chmod -R a+rX image
}

if [ ! -d "$image" ]; then
    work=$(mktemp -d "$cache/building.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    build
    # Somebody else may have been faster.
    mv -T image "$image" 2>/dev/null || [ -d "$image" ]
fi
echo "$image"
