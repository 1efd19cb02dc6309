"""The target's ldmd is killed right behind ``cont``, and the guest powers off before it is back."""

import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from machines import Domain, World, eventually

import lodom
from lodom.lab.watch import Heartbeats

pytestmark = [pytest.mark.live, pytest.mark.long]

Make = Callable[..., Domain]
OFF_S = 2.0
"""A guest that has been silent for so long has powered off."""
_CONT = 'await guest.execute("cont")\n'
_IMPORTS = "import asyncio\nimport os\nimport pathlib\n"
_KILL = (
    "                if pathlib.Path({mark!r}).exists():\n"
    "                    pathlib.Path({mark!r}).unlink()\n"
    "                    os.kill(os.getpid(), 9)\n"
)


def test_a_guest_that_powers_off_before_its_target_knows_that_it_ran(
    world: World, domains: Make, tmp_path: Path
) -> None:
    """QEMU refuses every ``cont`` then: both sides said for ever that the hand-over goes on."""
    a, b = world.a, world.b
    domain = domains("ldg1")
    shutil.copytree(Path(lodom.__file__).parent, tmp_path / "src/lodom")
    driver, mark = tmp_path / "src/lodom/drivers/qemu/driver.py", tmp_path / "armed"
    text = driver.read_text()
    assert text.count(_CONT) == 1
    patched = text.replace(_CONT, _CONT + _KILL.format(mark=str(mark)))
    driver.write_text(patched.replace("import asyncio\n", _IMPORTS, 1))
    b.kill_ldmd()
    with pytest.MonkeyPatch.context() as path:
        path.setenv("PYTHONPATH", str(tmp_path / "src"))
        b.start_ldmd()
    with Heartbeats() as beats:
        domain.start(beats)
        mark.touch()
        ldm = a.begin(*a.migrate_words("ldg1", b))
        eventually(lambda: not mark.exists(), "cont", within=60)
        beats.of("ldg1").wait(10, within=10)
        assert domain.status.say("poweroff") == "ok"
        eventually(lambda: not beats.of("ldg1").came(since=monotonic() - OFF_S), "it is off")
        b.start_ldmd()
        assert a.end(ldm, within=60).code == 0
        eventually(lambda: "ldg1" not in a.names(), "the source is done")
        eventually(lambda: b.row("ldg1")["state"] == "bound", "it is off")
        assert (a.qemus("ldg1"), b.qemus("ldg1")) == ([], [])
