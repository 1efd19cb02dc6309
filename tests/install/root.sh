#!/bin/bash
# What the installation tests run on, made once and kept under build/install:
#
#   tests/install/root.sh host        a bare Debian as debootstrap makes it, with the packages of the
#                                     operating system that docs/install.md names
#   tests/install/root.sh libvirt     a layer over that tree with libvirt, for bench/libvirt.py
#   tests/install/root.sh postgres    postgres.qcow2: the image of guest/debian.sh with PostgreSQL
#   tests/install/root.sh wheels      Lodom and the Python packages that it needs, as wheel files
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$root/build/install
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C DEBIAN_FRONTEND=noninteractive

qemu=(qemu-system-x86 qemu-utils)
others=(python3 python3-venv iproute2 nftables)
libvirt=(libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu gnutls-bin)

# Suite and mirror of this machine's own sources.
origin() {
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' \
        "Codename: $(. /etc/os-release && echo "$VERSION_CODENAME")" 'Component: main' | head -1
}

# Run "$@" in the tree $1 with /dev, /proc and this machine's names; the mounts end with it.
inside() {
    unshare --mount --propagation private bash -ec '
        tree=$1; shift
        for d in dev proc sys; do mount --rbind "/$d" "$tree/$d"; done
        for f in resolv.conf hosts; do cp "/etc/$f" "$tree/etc/"; done
        cp -a /etc/ssl/certs/. "$tree/etc/ssl/certs/" 2>/dev/null || :
        exec chroot "$tree" "$@"' _ "$@"
}

host() {
    local suite mirror
    read -r suite mirror < <(origin)
    rm -rf "$out/draft"
    debootstrap --variant=minbase "$suite" "$out/draft" "$mirror"
    if [ "$suite" = bookworm ]; then # its own QEMU is too old
        echo "deb $mirror $suite-backports main" >"$out/draft/etc/apt/sources.list.d/backports.list"
        suite+=-backports
    fi
    inside "$out/draft" apt-get -q update
    inside "$out/draft" apt-get -q install --yes --no-install-recommends --target-release "$suite" \
        "${qemu[@]}"
    inside "$out/draft" apt-get -q install --yes --no-install-recommends "${others[@]}"
    rm -rf "$out/draft"/var/cache/apt/archives/*.deb "$out/draft"/var/lib/apt/lists/*_*
    rm -rf "$out/host"
    mv "$out/draft" "$out/host"
}

# The layer is mounted in a namespace of its own, so nothing is left of it whatever happens.
libvirt() {
    "$0" host
    unshare --mount --propagation private "$0" _make layer
    rm -rf "$out/libvirt"
    mv "$out/layer" "$out/libvirt"
    rm -rf "$out/layer-work" "$out/layer-tree"
}

layer() {
    local suite tree=$out/layer-tree
    read -r suite _ < <(origin)
    rm -rf "$out"/layer*
    mkdir "$out/layer" "$out/layer-work" "$tree"
    mount -t overlay none "$tree" \
        -o "lowerdir=$out/host,upperdir=$out/layer,workdir=$out/layer-work"
    if [ "$suite" = bookworm ]; then # as new as the QEMU that it drives
        suite+=-backports
    fi
    inside "$tree" apt-get -q update
    inside "$tree" apt-get -q install --yes --no-install-recommends --target-release "$suite" \
        "${libvirt[@]}"
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*_*
}

postgres() {
    raw=$out/postgres.raw # these three for the trap
    "$root/guest/debian.sh" image
    qemu-img convert -O raw "$root/build/debian/debian.qcow2" "$raw"
    loop=$(losetup --find --show --offset 1M "$raw")
    mnt=$(mktemp -d)
    trap 'umount -R "$mnt" 2>/dev/null || :; losetup -d "$loop" 2>/dev/null || :
        rmdir "$mnt"; rm -f "$raw"' EXIT
    mount "$loop" "$mnt"
    inside "$mnt" apt-get -q update
    inside "$mnt" apt-get -q install --yes --no-install-recommends postgresql
    # Everybody on the guests' network may connect: the test is on the data, not on the password.
    echo "host all all 0.0.0.0/0 trust" >>"$(ls "$mnt"/etc/postgresql/*/main/pg_hba.conf)"
    echo "listen_addresses = '*'" >>"$(ls "$mnt"/etc/postgresql/*/main/postgresql.conf)"
    # On a slow machine its initramfs now and then fails to empty itself ("run-init: nuking initramfs
    # contents: Directory not empty") and panics, long before the guest has any driver of ours.
    sed -i 's/net.ifnames=0/& panic=5/' "$mnt/boot/grub/grub.cfg"
    rm -rf "$mnt"/var/cache/apt/archives/*.deb "$mnt"/var/lib/apt/lists/*_*
    umount -R "$mnt"
    losetup -d "$loop"
    qemu-img convert -O qcow2 "$raw" "$out/draft.qcow2"
    mv "$out/draft.qcow2" "$out/postgres.qcow2"
}

wheels() {
    rm -rf "$out/wheels"
    "$root/.venv/bin/python" -m pip wheel --quiet --wheel-dir "$out/wheels" "$root"
}

there() {
    case $1 in
    host | libvirt) [ -d "$out/$1" ] ;;
    postgres) [ -e "$out/postgres.qcow2" ] ;;
    wheels) [ -d "$out/wheels" ] ;;
    esac
}

digest() {
    case $1 in
    wheels) (cd "$root" && find src pyproject.toml -type f ! -name '*.pyc' -print0 | sort -z |
        xargs -0 sha256sum) ;;
    postgres) declare -f postgres inside && cat "$root/guest/debian.sh" ;;
    host) declare -f host inside && echo "${qemu[@]}" "${others[@]}" ;;
    libvirt) digest host && declare -f libvirt layer && echo "${libvirt[@]}" ;;
    esac | sha256sum
}

case ${1:-} in
host | libvirt | postgres | wheels) ;;
_make)
    "$2"
    exit
    ;;
*) echo "usage: tests/install/root.sh host | libvirt | postgres | wheels" >&2 && exit 2 ;;
esac
mkdir -p "$out"
exec 9>"$out/$1.lock"
flock 9
if ! there "$1" || [ "$(cat "$out/$1.stamp" 2>/dev/null)" != "$(digest "$1")" ]; then
    "$0" _make "$1" >"$out/$1.log" 2>&1 || { echo "root.sh $1 failed: $out/$1.log" >&2 && exit 1; }
    digest "$1" >"$out/$1.stamp"
fi
