"""``python -m lodom.lab.demo``: plays the demonstration, and leaves nothing behind."""

import argparse
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from lodom.client.http import Refused, Unreachable
from lodom.core.units import format_size
from lodom.host.topology import memory_available
from lodom.lab.demo.needs import examined, met
from lodom.lab.demo.stage import DemoFault, Stage
from lodom.lab.demo.story import play
from lodom.lab.demo.world import NAME, World, fitting
from lodom.lab.lab import Lab, LabFault

MARK = "demo"
"""In the lab's folder: it is ours to take down."""


def main() -> int:
    """Exit code 0 when everything was as told, 1 with a sentence when not, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--guest", type=Path, required=True, help="folder of vmlinuz and initrd")
    parser.add_argument("--logs", type=Path, required=True, help="where logs go when it fails")
    parser.add_argument("--keep", action="store_true", help="leave the machines up")
    asked = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    stage, lab = Stage(), Lab()
    try:
        _clear(lab)
    except LabFault as fault:
        sys.stderr.write(f"demo: {fault}\n")
        return 1
    try:
        _play(stage, World(lab, fitting(memory_available()), asked.guest.resolve()))
        if asked.keep:
            _keep(stage, lab)
            return 0
    except (DemoFault, LabFault, Refused, Unreachable, OSError) as fault:
        saved = _save_logs(lab, asked.logs)
        sys.stderr.write(f"demo: {fault}\n{saved}")
        _down(lab)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; cleaning up\n")
        _down(lab)
        return 130
    _down(lab)
    stage.tell(f"The lab is down, nothing is left of it. {stage.seconds:.0f} s in all.")
    return 0


def _clear(lab: Lab) -> None:
    """End what an earlier demonstration left with ``--keep``.

    Raises:
        LabFault: a lab is up that is not ours.
    """
    if lab.machines and not (lab.root / MARK).exists():
        raise LabFault("a lab is up on this host; ldm-lab down ends it")
    lab.down()


def _play(stage: Stage, world: World) -> None:
    accelerator = met(examined())
    world.lab.root.mkdir(parents=True, exist_ok=True)
    (world.lab.root / MARK).touch()
    stage.tell(
        f"""Memory: 2 pools of {format_size(world.block)} and a little more, given back at the end.
        Accelerator: {accelerator}. Everything below is measured in this run."""
    )
    play(stage, world)


def _keep(stage: Stage, lab: Lab) -> None:
    tool = Path(sys.executable).with_name("ldm-lab")
    one, two = (p.machine.name for p in lab.machines)
    stage.act("Yours to try")
    stage.show(
        [
            f"  {tool} ldm {one} list -l {NAME}",
            f"  {tool} ldm {one} migrate-domain -v -p {lab.root}/password {NAME} {two}",
            f"  {tool} ldm {two} list-devices -a",
            f"  {tool} ldm {two} explain R18",
            f"  {tool} down",
        ]
    )


def _save_logs(lab: Lab, folder: Path) -> str:
    """Keep what the ldmds logged; a line that says where."""
    for p in lab.standing():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(p.log, folder / f"{p.machine.name}.log")
    return f"The logs of both ldmds are in {folder}.\n" if folder.is_dir() else ""


def _down(lab: Lab) -> None:
    """Take the lab down; a second Ctrl-C does not leave half of it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    lab.down()
    signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
