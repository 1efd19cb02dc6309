#!/bin/bash
# A CD that boots the lab guest, as an installer's CD boots its own system: GRUB from this machine's
# distribution packages (unpacked, not installed), BIOS only, and what it boots.
#
#   guest/iso.sh FILE ARGUMENTS...    write FILE; ARGUMENTS are the guest's kernel arguments
#
# Needs apt, genisoimage (tools/setup.sh --debian) and build/guest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 2 ] || { echo "usage: guest/iso.sh FILE ARGUMENTS..." >&2; exit 1; }
command -v genisoimage >/dev/null || { echo "boot CD: needs genisoimage: run tools/setup.sh --debian" >&2; exit 1; }
file=$(realpath "$1")
shift
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
mkdir -p "$work/deb" "$work/grub" "$work/cd/boot/grub"
(cd "$work/deb" && apt-get -o APT::Sandbox::User=root -qq download grub-common grub-pc-bin \
    libdevmapper1.02.1) # the library of grub-mkimage that a small installation lacks
for deb in "$work"/deb/*.deb; do
    dpkg-deb -x "$deb" "$work/grub"
done
cp "$here/../build/guest/vmlinuz" "$here/../build/guest/initrd" "$work/cd/boot/"
cat >"$work/cd/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry guest {
    linux /boot/vmlinuz $*
    initrd /boot/initrd
}
END
export LD_LIBRARY_PATH=$work/grub/usr/lib/x86_64-linux-gnu:$work/grub/lib/x86_64-linux-gnu
"$work/grub/usr/bin/grub-mkimage" --directory="$work/grub/usr/lib/grub/i386-pc" \
    --format=i386-pc-eltorito --prefix=/boot/grub --output="$work/cd/boot/grub/eltorito.img" \
    biosdisk iso9660 linux normal configfile serial terminal
genisoimage -quiet -rock -joliet -volid LODOM -b boot/grub/eltorito.img -no-emul-boot \
    -boot-load-size 4 -boot-info-table -output "$file" "$work/cd"
