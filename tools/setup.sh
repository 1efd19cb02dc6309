#!/bin/bash
# Make a bare Debian or Ubuntu machine ready for Lodom, and undo that.
#
#   tools/setup.sh [--yes]            say what is missing, ask once, install it
#   tools/setup.sh --debian           also what guest/debian.sh needs
#   tools/setup.sh --python           only .venv, for what needs neither root nor QEMU
#   tools/setup.sh --check            only say it; status 1 when something is missing
#   tools/setup.sh --remove [--yes]   take away what was installed here, and nothing else
#
# Or source it and call `setup [OPTIONS]`, which has the same effect and returns non-zero after one
# sentence on standard error when something cannot be had.  Safe to repeat; quick when nothing is
# missing.  What was installed is remembered in build/installed-by-lodom.

SETUP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SETUP_APT=/etc/apt
SETUP_QEMU=8.2 # oldest QEMU with all that the driver uses
SETUP_RECORD=$SETUP_ROOT/build/installed-by-lodom
SETUP_REASON="the reason is at the end of build/setup.log"

setup() (
    set -euo pipefail
    cd "$SETUP_ROOT"
    export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
    yes='' told='' action=install
    packages=(python3 python3-venv qemu-system-x86 qemu-utils iproute2 nftables cpio kmod gcc
        libc6-dev xz-utils zstd make curl ovmf genisoimage)
    [ "${CI:-}" != true ] || yes=1
    for option; do
        case $option in
        --yes) yes=1 ;;
        --told) yes=1 told=1 ;; # the caller has said it and asked
        --debian) packages+=(debootstrap fdisk e2fsprogs) ;;
        --python) packages=(python3 python3-venv make) ;;
        --check) action=check ;;
        --remove) action=remove ;;
        *) _setup_fail "unknown option $option; known: --yes, --debian, --python, --check, --remove" ;;
        esac
    done
    mkdir -p build 2>/dev/null && [ -w build ] || _setup_fail "cannot write to $SETUP_ROOT/build"
    exec 8>build/setup.lock
    flock 8 # a demo and a test started together
    "_setup_$action"
)

setup_remove() {
    setup --remove "$@"
}

_setup_fail() {
    echo "setup: $*" >&2
    exit 1
}

# ---- what is there, what is missing ----

# Is what Debian package $1 brings on this machine, from wherever it came?
_setup_has() {
    case $1 in
    python3) [ -x /usr/bin/python3 ] ;;
    python3-venv) /usr/bin/python3 -c 'import ensurepip' 2>/dev/null ;;
    qemu-system-x86) _setup_qemu_new_enough ;;
    qemu-utils) command -v qemu-img ;;
    iproute2) command -v ip ;;
    nftables) command -v nft ;;
    cpio | gcc | zstd | make | curl | debootstrap | genisoimage) command -v "$1" ;;
    fdisk) command -v sfdisk ;;
    ovmf) [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] ;;
    e2fsprogs) command -v mkfs.ext4 ;;
    kmod) command -v modprobe ;;
    libc6-dev) [ -e /usr/include/stdio.h ] ;;
    xz-utils) command -v xz ;;
    esac >/dev/null
}

_setup_qemu_new_enough() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && printf '%s\n' "$SETUP_QEMU" "$version" | sort -VC
}

_setup_look() { # fills the arrays present and missing
    local package
    present=() missing=()
    for package in "${packages[@]}"; do
        if _setup_has "$package"; then present+=("$package"); else missing+=("$package"); fi
    done
}

_setup_venv_stamp() {
    sha256sum <pyproject.toml
}

_setup_venv_current() {
    [ "$(cat .venv/lodom-stamp 2>/dev/null)" = "$(_setup_venv_stamp)" ] && .venv/bin/python -c ''
}

# ---- the plan, and consent ----

_setup_plan() {
    local from=
    echo "Lodom needs these packages (there: ${present[*]:-none})."
    if [ ${#missing[@]} -gt 0 ]; then
        echo "  to install:  ${missing[*]}, and what they depend on"
        if _setup_want_backports; then
            from=$(_setup_codename)-backports
            echo "               QEMU from $from: $(_setup_codename) has none of $SETUP_QEMU or newer"
            _setup_knows "$from" || echo "  to add:      $SETUP_APT/sources.list.d/lodom-backports.*:" \
                "$from on the mirror this machine uses"
        fi
    fi
    _setup_venv_current ||
        echo "  to make:     .venv with the Python packages of pyproject.toml, from PyPI"
    [ ${#packages[@]} = 3 ] || [ -e build/guest/stamp ] || echo "  to download: about 40 MB for the lab guest, unpacked into" \
        "build/guest when first used, not installed"
    echo "  undo with:   ./demo --remove"
}

_setup_consent() {
    local answer
    [ -z "$yes" ] || return 0
    [ -t 0 ] ||
        _setup_fail "nothing was changed: no terminal to ask on; give --yes (or set CI=true)"
    read -r -p "Go on? [y/N] " answer
    [[ $answer == [yY]* ]] || _setup_fail "nothing was changed"
}

# ---- packages ----

_setup_codename() {
    (. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
}

_setup_candidate() { # version of package $1 that apt would install, without epoch; may be empty
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \(.*:\)\?\([0-9.]*\).*/\2/p'
}

# The release's own QEMU is too old.  Without package lists only Debian 12 is known to be so.
_setup_want_backports() {
    local candidate
    [[ " ${missing[*]} " == *" qemu-system-x86 "* ]] || return 1
    candidate=$(_setup_candidate qemu-system-x86)
    if [ -z "$candidate" ]; then
        [ "$(_setup_codename)" = bookworm ]
    else
        dpkg --compare-versions "$candidate" lt "$SETUP_QEMU"
    fi
}

_setup_source_files() {
    find "$SETUP_APT/sources.list" "$SETUP_APT/sources.list.d" -type f \
        \( -name '*.list' -o -name '*.sources' \) 2>/dev/null
}

_setup_knows() { # is suite $1 among the machine's apt sources?
    _setup_source_files | xargs -r grep -hv '^#' | grep -qE "[[:space:]]$1([[:space:]]|\$)"
}

# Print the machine's own source of suite $1, with suite $2 in its place and all else (mirror, key,
# options) as it is: the key and the mirror that the administrator trusts.
_setup_source_like() {
    local file found
    while read -r file; do
        case $file in
        *.sources) found=$(awk -v RS= -v old="$1" -v new="$2" '
            /(^|\n)Types:[^\n]*deb/ && !/(^|\n)Enabled: *no/ &&
            $0 ~ "(^|\n)Suites:([^\n]* )?" old "( |\n|$)" {
                n = split($0, line, "\n")
                for (i = 1; i <= n; i++)
                    if (line[i] !~ /^#/) print line[i] ~ /^Suites:/ ? "Suites: " new : line[i]
                exit
            }' "$file") ;;
        *) found=$(sed -nE "s/^(deb +(\[[^]]*\] +)?[^ ]+ +)$1( .*)/\1$2\3/p" \
            <(tr '\t' ' ' <"$file") | head -1) ;;
        esac
        [ -z "$found" ] || { echo "$found" && return; }
    done < <(_setup_source_files)
    return 1
}

_setup_add_source() { # of suite $1
    local text file=$SETUP_APT/sources.list.d/lodom-backports
    text=$(_setup_source_like "${1%-backports}" "$1") ||
        _setup_fail "no apt source of ${1%-backports} found to take the mirror for $1 from"
    if [[ $text == deb* ]]; then file+=.list; else file+=.sources; fi
    echo "source $file" >>"$SETUP_RECORD"
    echo "$text" >"$file"
    _setup_apt update || {
        rm "$file"
        _setup_fail "the mirror of this machine has no $1, where QEMU $SETUP_QEMU would come from"
    }
}

_setup_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
        -o APT::Update::Error-Mode=any -o Dpkg::Use-Pty=0 "$@" >>build/setup.log 2>&1 8>&-
}

_setup_installed() {
    dpkg-query -W -f '${db:Status-Abbrev}${binary:Package}\n' | sed -n 's/^ii *//p' | sort
}

# Install and remember all packages that came with it, also when it ends half-way.
_setup_apt_install() {
    local before status=0
    before=$(_setup_installed)
    _setup_apt install --yes --no-install-recommends "$@" || status=$?
    comm -13 <(echo "$before") <(_setup_installed) | sed 's/^/package /' >>"$SETUP_RECORD"
    [ "$status" = 0 ] || _setup_fail "apt-get could not install $*; $SETUP_REASON"
}

_setup_packages() {
    local suite others
    command -v apt-get >/dev/null ||
        _setup_fail "no apt-get here; install by hand: ${missing[*]} (QEMU $SETUP_QEMU or newer)"
    [ "$(id -u)" = 0 ] || _setup_fail "only root can install packages: run it as root"
    echo "Installing packages (build/setup.log) …"
    _setup_apt update || _setup_fail "apt-get update failed; $SETUP_REASON"
    if _setup_want_backports; then
        suite=$(_setup_codename)-backports
        _setup_knows "$suite" || _setup_add_source "$suite"
        _setup_apt_install --target-release "$suite" qemu-system-x86 qemu-utils
    fi
    mapfile -t others < <(_setup_look && printf '%s\n' "${missing[@]}")
    [ -z "${others[*]}" ] || _setup_apt_install "${others[@]}"
    hash -r
    _setup_qemu_new_enough || _setup_fail "QEMU $SETUP_QEMU or newer is needed;" \
        "this system offers $(_setup_candidate qemu-system-x86)"
}

# ---- Python ----

_setup_venv() {
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        _setup_fail "Python 3.11 or newer is needed; /usr/bin/python3 is" \
            "$(/usr/bin/python3 --version)"
    echo "Installing Python packages into .venv …"
    .venv/bin/python -m pip --version >/dev/null 2>&1 8>&- || /usr/bin/python3 -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --editable '.[dev]' >>build/setup.log 2>&1 8>&- ||
        _setup_fail "pip could not install the Python packages; $SETUP_REASON"
    _setup_venv_stamp >.venv/lodom-stamp
}

# ---- the three actions ----

_setup_install() {
    [ "$(uname -m)" = x86_64 ] ||
        _setup_fail "Lodom runs on x86_64 machines, this one is $(uname -m)"
    _setup_look
    if [ ${#missing[@]} -eq 0 ] && _setup_venv_current; then
        return 0
    fi
    [ -n "$told" ] || _setup_plan
    _setup_consent
    : >build/setup.log
    [ ${#missing[@]} -eq 0 ] || _setup_packages
    _setup_venv_current || _setup_venv
    echo "Ready."
}

_setup_check() {
    _setup_look
    _setup_plan
    [ ${#missing[@]} -eq 0 ] && _setup_venv_current
}

_setup_remove() {
    local sources extra
    touch "$SETUP_RECORD"
    mapfile -t packages < <(sed -n 's/^package //p' "$SETUP_RECORD" | sort |
        comm -12 - <(_setup_installed))
    mapfile -t sources < <(sed -n 's/^source //p' "$SETUP_RECORD")
    echo "To remove: ${sources[*]} .venv build/guest build/debian"
    if [ ${#packages[@]} -gt 0 ]; then
        echo "To remove, packages installed here: ${packages[*]}"
        [ "$(id -u)" = 0 ] || _setup_fail "only root can remove packages: run it as root"
        extra=$(apt-get -s purge "${packages[@]}" | sed -n 's/^\(Purg\|Remv\) \([^ ]*\).*/\2/p' |
            sort -u | comm -23 - <(printf '%s\n' "${packages[@]}" "${packages[@]%%:*}" | sort -u) |
            xargs)
        [ -z "$extra" ] ||
            _setup_fail "nothing was removed: $extra came later and needs some of these packages"
    fi
    _setup_consent
    if [ -e /run/lodom-lab/demo ]; then
        [ -x .venv/bin/ldm-lab ] || _setup_fail "the lab is up, and .venv that ends it is gone: ./demo first"
        .venv/bin/ldm-lab down
    fi
    # e2fsprogs counts as essential, yet was not there before; nothing else goes, see above.
    [ ${#packages[@]} -eq 0 ] || _setup_apt purge --yes --allow-remove-essential "${packages[@]}" ||
        _setup_fail "apt-get could not remove the packages; $SETUP_REASON"
    rm -f "${sources[@]}"
    rm -rf .venv build/guest build/debian "$SETUP_RECORD"
    echo "Removed."
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    setup "$@"
fi
