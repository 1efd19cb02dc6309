#!/bin/bash
# libvirt on a host of bench/libvirt.py, without systemd:
#
#   libvirt.sh certificates DIR HOST...   an authority and a certificate for each host, in DIR
#   libvirt.sh daemon DIR SHARED          configuration, a network "guests" over the bridge that has
#                                         eth1, libvirtd; SHARED is a folder that all hosts see
set -euo pipefail

key() {
    certtool --generate-privkey --key-type=rsa --bits=2048 --outfile "$1" 2>/dev/null
}

certificates() {
    local host
    mkdir -p "$1"
    cd "$1"
    key ca-key.pem
    printf '%s\n' 'cn = "bench"' ca cert_signing_key >ca.info
    certtool --generate-self-signed --load-privkey ca-key.pem --template ca.info \
        --outfile ca-cert.pem 2>/dev/null
    for host in "${@:2}"; do
        key "$host-key.pem"
        printf '%s\n' "cn = \"$host\"" "dns_name = \"$host\"" tls_www_server tls_www_client \
            signing_key encryption_key >"$host.info"
        certtool --generate-certificate --load-privkey "$host-key.pem" --template "$host.info" \
            --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem \
            --outfile "$host-cert.pem" 2>/dev/null
    done
}

# The same certificate for libvirtd and for QEMU, as server and as client.
place() {
    local kind
    install -Dm644 "$1/ca-cert.pem" /etc/pki/CA/cacert.pem
    install -Dm644 "$1/ca-cert.pem" /etc/pki/qemu/ca-cert.pem
    for kind in server client; do
        install -Dm644 "$1/$(hostname)-cert.pem" "/etc/pki/libvirt/${kind}cert.pem"
        install -Dm600 "$1/$(hostname)-key.pem" "/etc/pki/libvirt/private/${kind}key.pem"
        install -Dm644 "$1/$(hostname)-cert.pem" "/etc/pki/qemu/$kind-cert.pem"
        install -Dm600 "$1/$(hostname)-key.pem" "/etc/pki/qemu/$kind-key.pem"
    done
}

# libvirt says `-accel tcg` and cannot be told the number of threads (its own -accel comes first and
# wins); QEMU before 10.1 is not safe with a thread for each emulated CPU.
one_thread() {
    cat >/usr/local/bin/qemu-one-thread <<'END'
#!/bin/bash
for word; do
    shift
    [ "$word" != tcg ] || word=tcg,thread=single
    set -- "$@" "$word"
done
exec qemu-system-x86_64 "$@"
END
    chmod +x /usr/local/bin/qemu-one-thread
}

# User, security and cgroups as for a host without systemd, users and a security module; file for
# logs because virtlogd does not run.
configure() {
    cat >>/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
default_tls_x509_cert_dir = "/etc/pki/qemu"
default_tls_x509_verify = 1
shared_filesystems = ["$1"]
END
}

daemon() {
    local bridge
    place "$1"
    configure "$2"
    one_thread
    libvirtd --daemon --listen
    bridge=$(basename "$(readlink /sys/class/net/eth1/master)")
    virsh net-define /dev/stdin <<END
<network><name>guests</name><forward mode="bridge"/><bridge name="$bridge"/></network>
END
    virsh net-start guests
    # What libvirt probes once, when it first meets an emulator, is not part of a move.
    virsh domcapabilities --virttype qemu --emulatorbin /usr/local/bin/qemu-one-thread >/dev/null
}

"$@"
