#!/bin/bash
# Build the lab guest: build/guest/vmlinuz and build/guest/initrd, out of this machine's own
# distribution packages, which are unpacked and not installed.  Does nothing when they are up to
# date; needs no root.  Needs apt, gcc with static libc, binutils, kmod, cpio, gzip, xz, zstd.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../build/guest}
work=$out/work.$$
root=$work/root                      # the initramfs
libraries=$root/lib/x86_64-linux-gnu # where Debian's loader looks first

# In the order they are loaded; what they depend on is found by modprobe.  The optional ones are
# taken where the kernel has them.
modules=(virtio_pci virtio_blk virtio_net virtio_console)
optional=(virtio_rng virtio_crypto pvpanic-pci)

fail() {
    echo "lab guest: $*" >&2
    exit 1
}

# Names of what each PACKAGE depends on: first alternatives, no virtual packages.
depends() {
    apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" | sed -n 's/^ *\(Pre\)\?Depends: \([^<].*\)/\2/p' | sort -u
}

# Download the candidate version of each PACKAGE and unpack it into DIRECTORY.
unpack() {
    local directory=$1 deb
    shift
    mkdir -p "$work/deb" "$directory"
    (cd "$work/deb" && apt-get -o APT::Sandbox::User=root -qq download "$@") ||
        fail "cannot download $*"
    for deb in "$work"/deb/*.deb; do
        dpkg-deb -x "$deb" "$directory"
    done
    rm -r "$work/deb"
}

unpack_kernel() {
    local meta image
    for meta in linux-image-cloud-amd64 linux-image-virtual; do
        image=$(depends "$meta" 2>/dev/null | grep '^linux-image-' | head -1) || continue
        # Ubuntu keeps the modules in a package of their own.
        unpack "$work/kernel" "$image" $(depends "$image" | grep '^linux-modules-' || true)
        return
    done
    fail "apt knows no linux-image-cloud-amd64 and no linux-image-virtual; try apt-get update"
}

# The shared objects that qemu-ga needs, one a line: "have FILE" or "lack NAME".
libraries_needed() {
    local todo so file seen=" "
    mapfile -t todo < <(needed "$work/agent/usr/sbin/qemu-ga")
    while [ ${#todo[@]} -gt 0 ]; do
        so=${todo[0]} todo=("${todo[@]:1}")
        [[ $seen != *" $so "* ]] || continue
        seen+="$so "
        file=$(find "$work/agent" -name "$so" -print -quit)
        if [ -z "$file" ]; then
            echo "lack $so"
        else
            echo "have $file"
            mapfile -t -O ${#todo[@]} todo < <(needed "$file")
        fi
    done
}

lacking() {
    libraries_needed | sed -n 's/^lack //p'
}

needed() { # shared objects that FILE itself asks for
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

# Go down the tree of dependencies until no shared object is missing; copy only those.
install_agent() {
    local level=(qemu-guest-agent) seen=" " file
    while [ ${#level[@]} -gt 0 ]; do
        unpack "$work/agent" "${level[@]}"
        [ -n "$(lacking)" ] || break
        seen+="${level[*]} "
        mapfile -t level < <(depends "${level[@]}" | grep -E '^(lib|zlib)' | while read -r file; do
            [[ $seen == *" $file "* ]] || echo "$file"
        done)
    done
    [ -z "$(lacking)" ] || fail "no package has" $(lacking)
    mkdir -p "$root/lib64" "$libraries"
    install "$work/agent/usr/sbin/qemu-ga" "$root/sbin/"
    cp -L "$(find "$work/agent" -name 'ld-linux-x86-64.so.2' -print -quit)" "$root/lib64/"
    libraries_needed | while read -r _ file; do
        cp -L "$file" "$libraries/"
    done
}

# Copy the modules unpacked (busybox insmod reads only plain ones), write their order.
install_modules() {
    local version lines file name
    version=$(ls "$work/kernel"/lib/modules 2>/dev/null || ls "$work/kernel"/usr/lib/modules)
    [ -d "$work/kernel/lib/modules" ] || ln -s usr/lib "$work/kernel/lib"
    depmod -b "$work/kernel" "$version"
    show() { modprobe -d "$work/kernel" -S "$version" --show-depends "$1"; }
    lines=$(for name in "${modules[@]}"; do show "$name" || fail "the kernel has no $name"; done
        for name in "${optional[@]}"; do show "$name" 2>/dev/null || true; done)
    mkdir -p "$root/lib/modules"
    awk '$1 == "insmod" && !seen[$2]++ {print $2}' <<<"$lines" | while read -r file; do
        name=$(basename "${file%.ko*}").ko
        case $file in
        *.xz) xz -dc "$file" ;;
        *.zst) zstd -qdc "$file" ;;
        *.gz) gzip -dc "$file" ;;
        *) cat "$file" ;;
        esac >"$root/lib/modules/$name"
        echo "$name"
    done >"$root/lib/modules/order"
}

install_base() {
    local applet
    mkdir -p "$root"/{bin,sbin,dev,etc,proc,root,run,sys,tmp,var}
    ln -s ../run "$root/var/run"
    unpack "$work/busybox" busybox-static
    install "$(find "$work/busybox" -name busybox -type f -perm -1 | head -1)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    ln -s ../bin/busybox "$root/sbin/init"
    install "$here/init" "$root/init"
    install -t "$root/sbin" "$here/agent" "$here/shutdown"
    for applet in poweroff reboot halt; do
        ln -s shutdown "$root/sbin/$applet"
    done
    install -m 644 "$here/inittab" "$root/etc/inittab"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    echo "PS1=\"\$(hostname)# \" HOME=/root; export PATH=/sbin:/bin; cd" >"$root/etc/profile"
    gcc -std=c11 -O2 -Wall -Wextra -Werror -static -s -pthread "$here/workload.c" \
        -o "$root/bin/workload"
}

digest() { # of all that the guest is made from
    cat "$here"/{build.sh,init,inittab,agent,shutdown,workload.c} /etc/os-release | sha256sum
}

build() {
    mkdir -p "$work"
    trap 'rm -rf "$work"' EXIT
    unpack_kernel
    install_base
    install_modules
    install_agent
    (cd "$root" && find . -print0 | sort -z | cpio --null --create --format=newc --owner=0:0 \
        --reproducible --quiet | gzip -9n) >"$work/initrd"
    install -m 644 "$(ls "$work"/kernel/boot/vmlinuz-* | head -1)" "$work/vmlinuz"
    mv "$work/vmlinuz" "$work/initrd" "$out/"
}

mkdir -p "$out"
exec 9>"$out/lock"
flock 9 # two builders at once: the second finds the work done
stamp=$(digest)
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$out/stamp" "$out"/work.*
    build
    echo "$stamp" >"$out/stamp"
fi
