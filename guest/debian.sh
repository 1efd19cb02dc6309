#!/bin/bash
# An ordinary Debian with its own boot loader (GRUB, BIOS), the guest agent, cloud-init and a login on
# ttyS0: what a user brings along, where the lab guest is what the tests bring.
#
#   guest/debian.sh image             build build/debian/debian.qcow2; nothing to do when it is there
#   guest/debian.sh seed NAME FILE [ADDRESS/LEN [GATEWAY]]
#                                     write FILE, a NoCloud seed for cloud-init: host name NAME, the
#                                     first network card by DHCP or with ADDRESS, root's password lodom
#
# The image needs root, a loop device, and the packages of `tools/setup.sh --debian`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$here/../build/debian
size=1536M
packages=(linux-image-cloud-amd64 grub-pc-bin grub2-common qemu-guest-agent cloud-init ifupdown
    isc-dhcp-client iproute2 iputils-ping systemd-sysv udev dbus openssh-server
    kmod procps less vim-tiny)

fail() {
    echo "debian image: $*" >&2
    exit 1
}

# This machine's own release and mirror if it runs Debian, else what debootstrap takes by itself.
origin() {
    (
        . /etc/os-release
        [ "$ID" = debian ] || { echo stable && return; }
        apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' \
            "Codename: $VERSION_CODENAME" 'Component: main' | head -1 | grep . || echo "$VERSION_CODENAME"
    )
}

configure() { # ROOT: what makes a bare Debian a domain's
    echo debian >"$1/etc/hostname"
    echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$1/etc/fstab"
    mkdir -p "$1/etc/default" "$1/etc/cloud/cloud.cfg.d" "$1/boot/grub"
    cat >"$1/etc/default/grub" <<-'END'
	GRUB_TIMEOUT=0
	GRUB_CMDLINE_LINUX="console=ttyS0 net.ifnames=0"
	GRUB_TERMINAL=serial
	GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
	GRUB_DISABLE_OS_PROBER=true
	END
    # update-grub refuses a root on a loop device; it writes its own file at the first kernel update.
    cat >"$1/boot/grub/grub.cfg" <<-'END'
	serial --unit=0 --speed=115200
	terminal_input serial
	terminal_output serial
	set timeout=0
	menuentry Debian {
	    linux /vmlinuz root=LABEL=root ro console=ttyS0 net.ifnames=0
	    initrd /initrd.img
	}
	END
    # No wait for the metadata service of a cloud that is not there; no locales are installed.
    printf 'datasource_list: [NoCloud, None]\nlocale: false\n' \
        >"$1/etc/cloud/cloud.cfg.d/90_lodom.cfg"
}

# Make the partition's file system.  Runs in a mount namespace of its own: its mounts end with it,
# whatever happens.
fill() { # LOOP
    local root suite mirror
    root=$(mktemp -d)
    read -r suite mirror < <(origin)
    mkfs.ext4 -q -L root "$1"
    mount "$1" "$root"
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
    configure "$root"
    for tree in dev proc sys; do
        mount --rbind "/$tree" "$root/$tree"
    done
    # By apt, as debootstrap does not know virtual packages.
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -q install --yes --no-install-recommends \
        -o Dpkg::Options::=--force-confold "${packages[@]}"
    cp -r "$root/usr/lib/grub/i386-pc" "$root/boot/grub/"
    chroot "$root" grub-mkimage --format=i386-pc --prefix='(hd0,msdos1)/boot/grub' \
        --output=/boot/grub/i386-pc/core.img biosdisk part_msdos ext2
    cp "$root"/boot/grub/i386-pc/{boot,core}.img "$out/"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*
    : >"$root/etc/machine-id"
    fstrim "$root" || true # what was deleted need not be in the image
    umount -R "$root"
    rmdir "$root"
}

image() {
    raw=$out/work.img
    [ "$(id -u)" = 0 ] || fail "needs root for a loop device"
    for tool in debootstrap sfdisk mkfs.ext4 losetup qemu-img; do
        command -v "$tool" >/dev/null || fail "needs $tool: run tools/setup.sh --debian"
    done
    rm -f "$raw"
    truncate -s "$size" "$raw"
    echo 'start=2048, type=83, bootable' | sfdisk -q "$raw"
    # The partition alone: not every kernel shows a loop device's partitions.  So grub-install cannot
    # be used, and its work is done by hand below.
    loop=$(losetup --find --show --offset 1M "$raw")
    trap 'losetup -d "$loop" 2>/dev/null || true; rm -f "$raw"' EXIT
    unshare --mount --propagation private "$here/debian.sh" _fill "$loop" >"$out/log" 2>&1 ||
        fail "failed; the reason is at the end of $out/log"
    losetup -d "$loop"
    dd if="$out/boot.img" of="$raw" bs=1 count=440 conv=notrunc status=none # ends at the partition table
    dd if="$out/core.img" of="$raw" bs=512 seek=1 conv=notrunc status=none
    rm "$out/boot.img" "$out/core.img"
    qemu-img convert -O qcow2 "$raw" "$out/work.qcow2"
    mv "$out/work.qcow2" "$out/debian.qcow2"
    digest >"$out/stamp"
}

digest() {
    cat "$here/debian.sh" /etc/os-release | sha256sum
}

seed() { # NAME FILE [ADDRESS/LEN [GATEWAY]]
    command -v genisoimage >/dev/null || fail "needs genisoimage: run tools/setup.sh --debian"
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    printf 'instance-id: %s\nlocal-hostname: %s\n' "$1" "$1" >"$folder/meta-data"
    cat >"$folder/user-data" <<-END
	#cloud-config
	chpasswd: {expire: false, users: [{name: root, password: lodom, type: text}]}
	END
    {
        printf 'version: 2\nethernets:\n  eth0:\n'
        if [ -n "${3:-}" ]; then
            printf '    addresses: [%s]\n' "$3"
            [ -z "${4:-}" ] || printf '    gateway4: %s\n' "$4"
        else
            printf '    dhcp4: true\n'
        fi
    } >"$folder/network-config"
    genisoimage -quiet -volid cidata -joliet -rock -output "$2" "$folder"
}

mkdir -p "$out"
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
case ${1:-} in
image)
    exec 9>"$out/lock"
    flock 9
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$(digest)" ] || image
    ;;
seed)
    [ $# -ge 3 ] || fail "usage: guest/debian.sh seed NAME FILE [ADDRESS/LEN [GATEWAY]]"
    seed "${@:2}"
    ;;
_fill) fill "$2" ;;
*) fail "usage: guest/debian.sh image | seed NAME FILE [ADDRESS/LEN [GATEWAY]]" ;;
esac
