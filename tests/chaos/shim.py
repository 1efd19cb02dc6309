"""Power loss that drops what was not synced, and wrong clocks: the campaign's side of shim.c."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_SOURCE = _HERE / "shim.c"
_SYNC = "import os, sys; [os.fsync(os.open(f, 0)) for f in sys.argv[3:]]"


def build(into: Path) -> Path:
    """The shim, compiled."""
    into.mkdir(parents=True, exist_ok=True)
    made = into / "shim.so"
    warnings = ["-Wall", "-Wextra", "-Wno-format-truncation", "-Werror"]
    subprocess.run(
        ["gcc", "-O2", *warnings, "-shared", "-fPIC", "-o", made, _SOURCE], check=True
    )  # fmt: skip
    return made


def prepare(folder: Path) -> None:
    """What an ldmd under the shim finds in its machine's folder."""
    _empty(folder / "kept")
    set_clock(folder, 0)


def _empty(kept: Path) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    for name in ("data", "names"):
        (kept / name).mkdir(parents=True)


def set_clock(folder: Path, seconds: int) -> None:
    """From now on the wall clock of the machine's ldmd is wrong by so much."""
    with (folder / "clock").open("r+b" if (folder / "clock").exists() else "wb") as file:
        file.write(struct.pack("q", seconds))


def keep(folder: Path, *names: str) -> None:
    """Sync what the campaign itself wrote into the state, under the shim (LD_PRELOAD is set)."""
    files = [str(folder / "state" / name) for name in names]
    config = ["--config", str(folder / "machine.toml")]
    subprocess.run([sys.executable, "-c", _SYNC, *config, *files], check=True)


def lose_unsynced(folder: Path) -> int:
    """The state becomes what was durable; how many files were not as they had been.

    No process may have it open.
    """
    state, kept = folder / "state", folder / "kept"
    durable = {p.name.replace("%", "/"): p.read_bytes() for p in (kept / "names").iterdir()}
    now = {str(p.relative_to(state)): p.read_bytes() for p in state.rglob("*") if p.is_file()}
    lost = sum(durable.get(name) != data for name, data in now.items())
    modes = {name: (state / name).stat().st_mode & 0o7777 for name in now}
    for name in now:
        (state / name).unlink()
    _empty(kept)
    for name, data in durable.items():
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).touch(mode=0o600)
        (state / name).write_bytes(data)
        (state / name).chmod(modes.get(name, 0o600))
    keep(folder, *durable)
    return lost
