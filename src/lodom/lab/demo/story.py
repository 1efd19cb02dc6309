"""The acts of the demonstration, in their order."""

from contextlib import ExitStack
from time import monotonic

from lodom.core.errors import Kind
from lodom.core.units import format_size
from lodom.lab.demo import draw
from lodom.lab.demo.console import converse
from lodom.lab.demo.stage import DemoFault, Stage, ldm_argv, ldm_environment
from lodom.lab.demo.world import ADDRESS, GUEST, NAME, World, ask, copies, domain, topology
from lodom.lab.topology import Placed
from lodom.lab.trouble import cut_in_hand_over
from lodom.lab.watch import CLIENT, TICK_S, Counter, Heartbeats, Probe, Status

REFUSED, IN_DOUBT = Kind.REFUSED.exit_code, Kind.PEER.exit_code
FRAMES_TWICE = 2
"""The frame on its way when the guest stops may come again: once a move."""
BOOT_S = 60.0
DOUBT_S, SETTLED_S = 45.0, 90.0


class Watch:
    """The witnesses of the guest, all on the third host."""

    def __init__(self, stack: ExitStack, beats: Heartbeats) -> None:
        self.beats = beats
        self.counter = stack.enter_context(Counter(ADDRESS))
        self.probe = stack.enter_context(Probe(ADDRESS))

    def judge(self, stage: Stage, since: float) -> None:
        """What they saw since then, checked."""
        counter, probe = self.counter, self.probe
        stage.check(
            counter.unbroken,
            f"the TCP connection is the one opened at first; counter at {counter.last},"
            f" {counter.backwards} times back",
        )
        stage.check(
            len(self.beats.boots(NAME)) == 1 and self.beats.repeated(NAME) <= FRAMES_TWICE,
            "one boot id all the time; heartbeats heard twice:"
            f" {self.beats.repeated(NAME)} (a second copy would be heard 200 times a second)",
        )
        stage.show(
            [
                f"  longest gap, counter  {_ms(counter.gap(since))}   (it ticks every 5 ms)",
                f"  longest gap, probe    {_ms(probe.gap(since))}",
            ]
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:8.0f} ms"


def play(stage: Stage, world: World) -> None:
    """All acts.

    Raises:
        DemoFault, LabFault, OSError: something did not go as told.
    """
    with ExitStack() as stack:
        machines(stage, world)
        beats = stack.enter_context(Heartbeats())
        guest(stage, world, beats)
        watch = Watch(stack, beats)
        unfit(stage, world)
        specification(stage, world)
        move(stage, world, watch)
        trouble(stage, world, watch)


def machines(stage: Stage, world: World) -> None:
    """Start the lab and a guest on its first machine."""
    stage.act("Two machines")
    stage.tell(
        f"""Each is a network namespace of this host with an ldmd of its own, 4 cores of 4 strands
        and its own memory. A cable joins them; a third host ({CLIENT}) is on the guests'
        network and watches. Starting them ..."""
    )
    began = monotonic()
    world.lab.up(topology(world.block))
    stage.tell(f"Both answer after {monotonic() - began:.1f} s. A guest of 2 strands and 256M:")
    one, two = world.one, world.two
    with world.volume.open("wb") as volume:
        volume.truncate(64 << 20)
    for p in (one, two):
        stage.ldm(p, "add-vdsdev", str(world.volume), "vol1@primary-vds0")
    arguments = (
        f"console=ttyS0 quiet no_timer_check lodom.name={NAME} lodom.ip={ADDRESS}/24"
        " lodom.heartbeat=10.97.1.254:7999 lodom.disk=1 lodom.dirty=20:32"
    )
    for line in (
        f"add-domain {NAME}", f"set-vcpu 2 {NAME}", f"set-memory {format_size(GUEST)} {NAME}",
        f"add-vdisk vdisk0 vol1@primary-vds0 {NAME}", f"add-vnet vnet0 primary-vsw0 {NAME}",
    ):  # fmt: skip
        stage.ldm(one, *line.split())
    stage.ldm(
        one, "set-variable", f"boot-kernel={world.image}/vmlinuz",
        f"boot-initrd={world.image}/initrd", f"boot-args={arguments}", NAME,
    )  # fmt: skip
    stage.ldm(one, "bind-domain", NAME)
    stage.ldm(one, "start-domain", NAME)


def guest(stage: Stage, world: World, beats: Heartbeats) -> None:
    """The machines drawn, the lists, the console."""
    stage.act("What runs where")
    drawings = [_drawn(p) for p in (world.one, world.two)]
    stage.show(draw.beside(*drawings))
    beats.first(NAME, within=BOOT_S)
    found = domain(world.one)
    assert found is not None
    port = found["console"]
    stage.tell("The guest's console, a telnet port of the first machine:")
    stage.command(world.one.machine.name, "telnet", "localhost", port)
    asked = ["uname -sr", "grep -c ^processor /proc/cpuinfo", "cat /sys/class/net/eth0/address"]
    stage.output(converse(world.one.namespace, int(port), f"{NAME}# ", asked))
    _wait_for_agent(world.one, beats)
    for p in (world.one, world.two):
        stage.ldm(p, "list")


def _wait_for_agent(p: Placed, beats: Heartbeats) -> None:
    """Until the guest's system is up (flag n); its heartbeats are the clock."""
    deadline = monotonic() + BOOT_S
    while "n" not in (domain(p) or {"flags": ""})["flags"]:
        if monotonic() > deadline:
            raise DemoFault(f"the guest agent of {NAME} does not answer")
        beats.of(NAME).wait(20, within=BOOT_S)


def _drawn(p: Placed) -> list[str]:
    return draw.machine(p.machine.name, ask(p, "list-devices"), ask(p, "list-services"))


def unfit(stage: Stage, world: World) -> None:
    """Three facts of the target that forbid the move, and their remedies."""
    stage.act("A target that is not fit")
    one, two = world.one, world.two
    stage.tell("On the second machine another domain takes strands, a volume and the switch go:")
    for line in (
        "add-domain hog", "set-vcpu 11 hog", "set-memory 64M hog", "bind-domain hog",
        "remove-vdsdev vol1@primary-vds0", "remove-vsw primary-vsw0",
    ):  # fmt: skip
        stage.ldm(two, *line.split())
    stage.tell("A dry run says all that is wrong, and what to do, before anything has moved:")
    text = stage.ldm(one, *_migrate(world, "-n", "-v"), two.machine.name, status=REFUSED)
    for rule in ("R04", "R26", "R31"):
        stage.check(f"{rule} " in text, f"{rule} was found")
    stage.tell("Done as told (the new switch gets its uplink back besides):")
    for line in (
        "unbind-domain hog", "remove-domain hog", f"add-vdsdev {world.volume} vol1@primary-vds0",
        "add-vsw primary-vsw0 primary",
    ):  # fmt: skip
        stage.ldm(two, *line.split())
    world.lab.join_switches(two)
    stage.ldm(one, *_migrate(world, "-n"), two.machine.name)
    stage.check(True, "nothing is said: the move would succeed")


def _migrate(world: World, *options: str, name: str = NAME) -> list[str]:
    return ["migrate-domain", *options, "-p", world.password_file, name]


def specification(stage: Stage, world: World) -> None:
    """The example of the specification: enough memory is free, in the wrong pieces."""
    one, two, size = world.one, world.two, format_size(world.block)
    stage.act(f"Why {size} free is not enough for {size}")
    stage.tell("The example of the Logical Domains 1.2 guide, with real daemons:")
    if size != "2G":
        stage.tell(f"(The guide has 2G; this host has not that much memory free: {size} here.)")
    for line in ("add-domain ldg-src", "set-vcpu 1 ldg-src", f"set-memory {size} ldg-src",
                 "bind-domain ldg-src", "start-domain ldg-src"):  # fmt: skip
        stage.ldm(one, *line.split())
    stage.ldm(two, "list-devices", "memory")
    stage.ldm(one, "list", "-o", "memory", "ldg-src")
    words = ("migrate-domain", "ldg-src", two.machine.name)
    text = stage.ldm_asked(one, world.secret, *words, status=REFUSED)
    wanted = [
        "Target Password:",
        f"Unable to bind {size} memory region at real address 0x8000000",
        "Domain Migration of LDom ldg-src failed",
    ]
    stage.check(text.splitlines() == wanted, "word for word the three lines of the guide")
    stage.ldm(one, *_migrate(world, "-n", "-v", name="ldg-src"), two.machine.name, status=REFUSED)
    for line in ("stop-domain -f ldg-src", "unbind-domain ldg-src", "remove-domain ldg-src"):
        stage.ldm(one, *line.split())


def move(stage: Stage, world: World, watch: Watch) -> None:
    """The real thing."""
    one, two = world.one, world.two
    stage.act(f"{NAME} moves, and goes on running")
    stage.tell(
        """The guest writes to 20 MB of its memory a second and checks every block of its disk. The
        third host holds one TCP connection to a counter in the guest and probes it every 5 ms."""
    )
    before = domain(one)
    assert before is not None
    watch.counter.wait(20, within=BOOT_S)
    began = monotonic()
    stage.ldm(one, *_migrate(world, "-v"), two.machine.name, bar=True)
    watch.counter.wait(100, within=BOOT_S)
    silent, _ = watch.counter.silence(began)
    stage.tell("What came from the guest around the moment of the change:")
    stage.show(draw.timeline(watch.counter, watch.probe, silent - 0.45))
    for p in (one, two):
        stage.ldm(p, "list")
    stage.ldm(two, "list", "-o", "memory,network", NAME)
    stage.show([])
    after = domain(two)
    assert after is not None
    watch.judge(stage, began)
    stage.show([])
    _same(stage, before, after)
    stage.check(domain(one) is None, f"{one.machine.name} has no {NAME} any more")
    stage.check(copies() == 1, "one QEMU of it on this host")
    status = Status(ADDRESS).read()
    _unharmed(stage, status)


def _same(stage: Stage, before: dict[str, object], after: dict[str, object]) -> None:
    mac = [_macs(d) for d in (before, after)]
    stage.check(mac[0] == mac[1], f"the same MAC address: {', '.join(mac[1])}")
    real = [[b["ra"] for b in d["blocks"]] for d in (before, after)]  # type: ignore[attr-defined]
    stage.check(real[0] == real[1], f"the same real addresses: {', '.join(real[1])}")


def _macs(d: dict[str, object]) -> list[str]:
    return [str(v["mac"]) for v in d["network"]]  # type: ignore[attr-defined]


def _unharmed(stage: Stage, status: dict[str, dict[str, int]]) -> None:
    disk, pattern = status["disk"], status["pattern"]
    harm = disk["bad"] + disk["errors"]
    stage.check(harm == 0, f"{harm} bad blocks of {disk['verified']} read back from its disk")
    stage.check(not pattern["bad"], f"{pattern['bad']} bad pages of its memory")


def trouble(stage: Stage, world: World, watch: Watch) -> None:
    """Back again, with the worst that can happen at the worst moment."""
    home, away = world.one, world.two
    stage.act("The way back, cut in the hand-over")
    stage.tell(
        f"""Now the guest moves back. In the hand-over, when its memory has arrived on
        {home.machine.name} and {away.machine.name} gives it away, the link is cut and the ldmd of
        {home.machine.name} is killed. Neither machine can know what the other did. (That moment
        lasts milliseconds; to hit it surely the demonstration halts the ldmd of
        {away.machine.name} with SIGSTOP until cable and ldmd are gone.)"""
    )
    words = (*_migrate(world), home.machine.name)
    stage.command(away.machine.name, "ldm", *words)
    began = monotonic()
    victim = world.lab.pid(home)
    command = cut_in_hand_over(world.lab, away, home, ldm_argv(*words), ldm_environment(away))
    stage.command(home.machine.name, "ip", "link", "set", "eth0", "down")
    stage.command(home.machine.name, "kill", "-9", str(victim))
    stage.command(home.machine.name, "ldmd")
    world.lab.start(home)
    stage.tell(
        """The guest stands still: to run it on either side could mean two of it. The new ldmd
        finds what the journal says, and the cable is still out. After 30 s:"""
    )
    try:
        text = command.communicate(timeout=DOUBT_S)[0]
    except BaseException:
        command.kill()
        raise
    stage.output(text)
    if command.returncode != IN_DOUBT:
        raise DemoFault(f"the move ended with {command.returncode}, not {IN_DOUBT} (in doubt)")
    for p in (away, home):
        stage.ldm(p, "list")
    stage.show([])
    found = domain(away)
    stage.check(found is not None and found["flags"].endswith("e"), "flag e: in doubt")
    quiet = watch.beats.of(NAME).came(monotonic() - 25)
    stage.check(quiet == 0, "no copy of it has been heard for 25 s")
    stage.tell("The cable is put back. Nobody gives an order:")
    stage.command(home.machine.name, "ip", "link", "set", "eth0", "up")
    mended = monotonic()
    world.lab.mend(home)
    watch.beats.of(NAME).wait(since=mended, within=SETTLED_S)
    stage.tell(f"{monotonic() - mended:.1f} s later the guest goes on.")
    watch.counter.wait(100, within=BOOT_S)
    _settled(stage, world)
    watch.judge(stage, began)
    stage.show([])
    _unharmed(stage, Status(ADDRESS).read())
    stage.tell(
        f"The gap was the 30 s of doubt; the counter ticks on from where it stood"
        f" ({TICK_S * 1000:.0f} ms a tick), on the same connection."
    )


def _settled(stage: Stage, world: World) -> None:
    """Wait until the old copy is destroyed, then show both lists."""
    deadline = monotonic() + SETTLED_S
    while domain(world.two) is not None and monotonic() < deadline:
        Status(ADDRESS).read()
    for p in (world.one, world.two):
        stage.ldm(p, "list")
    stage.show([])
    stage.check(domain(world.two) is None, f"{world.two.machine.name} has given it up")
    stage.check(copies() == 1, "one QEMU of it on this host")
