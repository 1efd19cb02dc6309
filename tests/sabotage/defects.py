"""The defects: text of ours that is replaced, and the tests that must turn red, no others."""

from dataclasses import dataclass

DRIVER = "src/lodom/drivers/qemu/driver.py"
COPYING = "src/lodom/drivers/qemu/copying.py"

_RUN = """                await guest.execute("cont")
                reason ="""
_FLIP = """                if guest.home != "home":
                    for word in guest.process.command():
                        if word.startswith("{") and '"filename"' in word:
                            with open(__import__("json").loads(word)["filename"], "r+b") as image:
                                image.seek(40 * 4096 + 100)
                                image.write(b"flipped!")
"""
_RESET = """                if guest.home != "home":
                    await guest.execute("system_reset")
"""
_DESTROY = """            guest = self._guests.get(uuid)
            if guest is None:
                await self._launcher.remove(uuid)
"""
_SECOND = """            if guest is not None and await _state(guest) == "postmigrate":
                await guest.execute("cont")
                await asyncio.sleep(0.5)
"""

_NO_LOCK = ("src/lodom/drivers/qemu/images.py", '"locking": "on"', '"locking": "off"')
"""QEMU's own lock would stop two of the defects before any check of ours sees them."""


@dataclass(frozen=True)
class Defect:
    """One planted defect: (file, text, replacement), each text there exactly once."""

    name: str
    patches: tuple[tuple[str, str, str], ...]
    red: frozenset[str]


def _defect(name: str, red: str, *patches: tuple[str, str, str]) -> Defect:
    return Defect(name, patches, frozenset(red.split()))


DEFECTS = (
    _defect("nothing", ""),
    _defect(
        "start the target without the stream",
        # A fresh boot knows nothing of the shell that was typed to, either.
        "test_the_counter_goes_on test_the_console_is_the_same",
        (DRIVER, _RUN, _RESET + _RUN),
    ),
    _defect(
        "flip one disk block",
        "test_the_disk_is_whole",
        (DRIVER, _RUN, _FLIP + _RUN),
    ),
    _defect(
        "run a second copy",
        # The second copy also answers on the counter's connection.
        "test_one_copy_runs test_the_counter_goes_on",
        (DRIVER, _DESTROY, _DESTROY.replace("            if", _SECOND + "            if", 1)),
        _NO_LOCK,
    ),
    _defect(
        "replace the move by stop and start",
        # A fresh boot knows nothing of the shell that was typed to, either.
        "test_the_counter_goes_on test_the_console_is_the_same",
        ("src/lodom/drivers/qemu/argv.py",
         '*(("-incoming", "defer") if launch.incoming else ()),', ""),
        _NO_LOCK,
        (COPYING, "    if not incoming.secret:\n", "    return 1\n    if not incoming.secret:\n"),
        (COPYING, "    received = 0\n",
         "    guest.post(ev.IncomingLoaded(guest.uuid, migration))\n    return\n"
         "    received = 0\n"),
        (COPYING, "        await _start(guest, order)\n",
         '        await guest.execute("stop")\n'
         "        guest.post(ev.CopyPaused(guest.uuid, order.migration))\n        return\n"),
        (COPYING, "    if await current(guest) != migration:\n",
         "    guest.post(ev.CopyCompleted(guest.uuid, migration, {}))\n    return\n"
         "    if await current(guest) != migration:\n"),
    ),
    _defect(
        "swap two physical addresses",
        "test_memory_lies_at_its_addresses",
        ("src/lodom/drivers/qemu/launch.py",
         "for b in sorted(spec.blocks)],",
         "for b in sorted(spec.blocks, reverse=effect.incoming is not None)],"),
    ),
    _defect(
        "skip pinning",
        "test_strands_are_pinned",
        ("src/lodom/drivers/qemu/guest.py",
         "        self.process.pin(threads, self.settings.service_cpus())\n", ""),
    ),
    _defect(
        "skip the scrub",
        "test_what_it_left_is_scrubbed",
        ("src/lodom/host/pool.py", "await off_loop(partial(self._each, region, _zero))", "pass"),
    ),
)  # fmt: skip
