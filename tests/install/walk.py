"""A walk through docs/install.md."""

from hosts import ROOT, Host, Site
from pages import Block, blocks

PAGE = ROOT / "docs/install.md"


def network(host: Host) -> str:
    """Links, addresses, routes and network settings of a host."""
    settings = "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/{all,eth0,eth1}/*"
    return host.run(f"ip -br link; ip -br -4 address; ip route; grep -H . {settings}")


class Walk:
    """A walk through the page; each section can be run once, in its order."""

    def __init__(self, site: Site) -> None:
        self.site, self._rest = site, blocks(PAGE)
        self.first: dict[str, list[str]] = {}
        """What is run on alpha before a command of the page."""
        self.before = network(site.hosts["alpha"])

    def through(self, heading: str) -> None:
        """Run all blocks up to the end of the section."""
        while any(b.heading == heading for b in self._rest):
            self.step()

    def step(self) -> Block:
        """Run the next block."""
        block = self._rest.pop(0)
        if block.skipped:
            print(f"left out, {block.heading}: {block.skipped}")
            return block
        for prompt, command in block.commands:
            for first in self.first.get(command, ()):
                self.site.hosts["alpha"].run(first)
            for name, host in self.site.hosts.items():
                if prompt in (name, "both"):
                    host.run(command)
        return block
