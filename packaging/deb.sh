#!/bin/bash
# Build build/lodom_VERSION_amd64.deb from this tree.
#
#   packaging/deb.sh [--wheels DIR]     DIR: take the Python packages from there, not from the network
#
# The files are those of `./install --prefix /usr`, with the Python packages inside: why, is in
# docs/decisions/0010-debian-package.md.  Needs python3-venv and dpkg-deb, not root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
read -r python next < <(/usr/bin/python3 -c \
    'import sys; a, b = sys.version_info[:2]; print(f"{a}.{b} {a}.{b + 1}")')
package=$PWD/build/lodom_${version}_amd64.deb
mkdir -p build
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

./install --destdir "$stage" --prefix /usr "$@"
rm "$stage/usr/lib/lodom/manifest" # dpkg knows the files
gzip -9n "$stage/usr/share/man/man1/ldm.1"
install -D -m 644 LICENSE "$stage/usr/share/doc/lodom/copyright"

mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<END
Package: lodom
Version: $version
Architecture: amd64
Maintainer: The Lodom authors <lodom@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: python3 (>= $python~), python3 (<< $next~), qemu-system-x86 (>= 1:8.2), qemu-utils, iproute2, nftables, passwd
Suggests: bash-completion, genisoimage
Description: Logical Domains Manager for Linux
 Cuts a machine into hard partitions with the ldm command, runs them on QEMU, and moves a running
 one to another machine under the rules of Logical Domains 1.2.
END
printf '%s\n' /etc/lodom/machine.toml /etc/pam.d/lodom >"$stage/DEBIAN/conffiles"

cat >"$stage/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    getent group lodom >/dev/null || groupadd --system lodom
    install -d -m 700 /var/lib/lodom /var/log/lodom
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl try-restart ldmd.service # guests run on
    fi
fi
END
cat >"$stage/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    for socket in /run/lodom/*/qmp.sock; do
        if grep -qsF -- "$socket" /proc/[0-9]*/cmdline; then
            echo "lodom: domains run here: stop them (ldm stop-domain -a) or migrate them first" >&2
            exit 1
        fi
    done
    if [ -d /run/systemd/system ]; then
        systemctl disable --now lodom-guests.service lodom-memory.service ldmd.service
    fi
    ldmd --release-memory || : # else the next boot does it
fi
END
cat >"$stage/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    # With the journal this machine forgets which domains are its own: docs/install.md, "Back-up".
    rm -rf /var/lib/lodom /var/log/lodom /etc/lodom
    ! getent group lodom >/dev/null || groupdel lodom
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
END
chmod 755 "$stage/DEBIAN"/post* "$stage/DEBIAN/prerm"
dpkg-deb --root-owner-group --build "$stage" "$package"
