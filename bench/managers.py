"""Two managers on the same two hosts: how each is set up, starts its guest and is told to move it.

The hosts are those of the installation tests: one tree with one QEMU below both, one folder that
both see, one bridge with the second network card on each.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from string import Template

from hosts import Host, Site
from walk import Walk

MEMORY_MB, DISK_MB = 1024, 16
SHARED = "/srv/domains"
HEARTBEATS = "198.51.100.254:7999"
XML = Path(__file__).with_name("libvirt.xml")
LIBVIRT_SH = Path("bench/libvirt.sh")


@dataclass(frozen=True)
class Guest:
    """The lab guest under a name and an address of its own."""

    name: str
    address: str
    vcpus: int

    @property
    def disk(self) -> str:
        """Its disk, as both hosts name it."""
        return f"{SHARED}/{self.name}.img"

    @property
    def kernel_args(self) -> str:
        """See guest/README.md."""
        return (
            f"console=ttyS0 quiet no_timer_check lodom.name={self.name} lodom.ip={self.address}/24 "
            f"lodom.heartbeat={HEARTBEATS} lodom.disk=1"
        )


class Manager(ABC):
    """One of the two, on both hosts; its guest is made once, on alpha."""

    def __init__(self, site: Site, guest: Guest) -> None:
        self.site, self.guest = site, guest
        self.alpha = site.hosts["alpha"]
        self.set_up()

    @abstractmethod
    def set_up(self) -> None:
        """Install it, start it, make the guest."""

    @abstractmethod
    def start(self) -> None:
        """Start the guest on alpha, and wait for its agent."""

    @abstractmethod
    def stop(self, host: Host) -> None:
        """End the guest on *host*, as by pulling its plug."""

    @abstractmethod
    def move(self, target: str, *options: str) -> str:
        """What a user types to move the guest to *target*."""


class Lodom(Manager):
    """Installed, configured and used by the commands of docs/install.md."""

    def __init__(self, site: Site, guest: Guest, rules: str) -> None:
        self._rules = rules
        super().__init__(site, guest)

    def set_up(self) -> None:
        """The page as far as both hosts trust each other; then a domain."""
        Walk(self.site).through("Trust")
        g = self.guest
        for host in self.site.hosts.values():
            if self._rules != "1.2":
                self._restart(host, f'[migration]\nrules = "{self._rules}"')
            host.run(f"ldm add-vdsdev {g.disk} {g.name}@primary-vds0")
        for words in (
            f"add-domain {g.name}",
            f"set-vcpu {g.vcpus} {g.name}",
            f"set-memory {MEMORY_MB}M {g.name}",
            f"add-vdisk disk0 {g.name}@primary-vds0 {g.name}",
            f"add-vnet vnet0 primary-vsw0 {g.name}",
            f"set-variable boot-kernel={SHARED}/vmlinuz boot-initrd={SHARED}/initrd "
            f"'boot-args={g.kernel_args}' {g.name}",
            f"bind-domain {g.name}",
        ):
            self.alpha.run(f"ldm {words}")

    def _restart(self, host: Host, more: str) -> None:
        host.run(
            f"echo '{more}' >>/etc/lodom/machine.toml\nkill $(pidof -x ldmd)\n"
            "while pidof -x ldmd >/dev/null; do sleep 0.2; done\n"
            "ldmd >>/var/log/lodom/ldmd.log 2>&1 &\n"
            "until ldm -V >/dev/null 2>&1; do sleep 0.2; done"
        )

    def start(self) -> None:
        self.alpha.run(f"ldm start-domain {self.guest.name}")
        self.alpha.eventually(f"ldm list -p {self.guest.name}", "flags=normal", within=60)

    def stop(self, host: Host) -> None:
        host.run(f"ldm stop-domain -f {self.guest.name}")

    def move(self, target: str, *options: str) -> str:
        words = " ".join(["ldm migrate-domain -p /root/password", *options])
        return f"{words} {self.guest.name} mover@{target}"


class Libvirt(Manager):
    """``libvirtd`` with TLS for its own words and for the guest's memory."""

    def set_up(self) -> None:
        """Certificates for both, a network over the bridge that Lodom made, and a domain."""
        self.alpha.run(f"{LIBVIRT_SH} certificates {SHARED}/pki {' '.join(self.site.hosts)}")
        for host in self.site.hosts.values():
            host.run(f"{LIBVIRT_SH} daemon {SHARED}/pki {SHARED}")
        g = self.guest
        text = Template(XML.read_text()).substitute(
            name=g.name, vcpus=g.vcpus, memory=MEMORY_MB, shared=SHARED, disk=g.disk,
            args=g.kernel_args,
        )  # fmt: skip
        (self.site.shared / "libvirt.xml").write_text(text)
        self.alpha.run(f"virsh define {SHARED}/libvirt.xml")

    def start(self) -> None:
        name = self.guest.name
        self.alpha.run(f"virsh start {name}")
        ping = f'virsh qemu-agent-command {name} \'{{"execute": "guest-ping"}}\''
        self.alpha.eventually(ping, '"return"', within=60)

    def stop(self, host: Host) -> None:
        host.run(f"virsh destroy {self.guest.name}")

    def move(self, target: str, *options: str) -> str:
        words = ["virsh migrate --live --p2p --tls --persistent --undefinesource", *options]
        return f"{' '.join(words)} {self.guest.name} qemu+tls://{target}/system"
