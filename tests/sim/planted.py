"""Bugs planted into a copy of the source: the explorer or the simulation must report each.

Each is an exact replacement of text, so that a change of the source that moves it is noticed.
"""

from dataclasses import dataclass

SOURCE, TARGET = "core/migration/source.py", "core/migration/target.py"


@dataclass(frozen=True)
class Bug:
    """``file`` below the package, what stands there and what is put there, and who must see it.

    ``seen_by``: ``explore`` or ``sim``; ``durable`` or ``crashes``, tests of every command.
    """

    name: str
    file: str
    old: str
    new: str
    seen_by: str


BUGS = (
    Bug(
        "CEDED on LOADED alone",
        SOURCE,
        "    m = replace(m, loaded=True)\n    return _cede(m) if m.completed else (m, ())",
        "    return _cede(replace(m, loaded=True, completed=True))",
        "explore",
    ),
    Bug(
        "CEDED on completed alone",
        SOURCE,
        "    m = replace(m, completed=True)\n    return _cede(m) if m.loaded else (m, ())",
        "    return _cede(replace(m, completed=True, loaded=True))",
        "explore",
    ),
    Bug(
        "send before CEDED is durable",
        "sim/host.py",
        "            self._write(batch.changes)\n",
        "            for effect in (e for e in batch.effects if isinstance(e, do.Send)):\n"
        "                self._perform(effect)\n"
        "            self._perhaps_die()\n"
        "            self._write(batch.changes)\n",
        "sim",
    ),
    Bug(
        "resume before ABORTED is durable",
        SOURCE,
        "    (Phase.CEDED, steps.ResendDue): _row(Phase.CEDED, by=_again),",
        "    (Phase.CEDED, steps.ResendDue): _row(Phase.CEDED, by=_again),\n"
        "    (Phase.FINISHING, steps.Stalled): _row(\n"
        "        Phase.FINISHING, by=lambda m, _: (m, (do.RunGuest(m.uuid, m.epoch_here),))\n"
        "    ),",
        "explore",
    ),
    Bug(
        "resume on time-out",
        SOURCE,
        "    (Phase.CEDED, steps.ResendDue): _row(Phase.CEDED, by=_again),",
        "    (Phase.CEDED, steps.ResendDue): _row(\n"
        "        Phase.RESUMING, Phase.RELEASED, by=lambda m, _: _take_back(m)\n"
        "    ),",
        "explore",
    ),
    Bug(
        "REFUSED after OWNED",
        TARGET,
        "    (Phase.RUNNING, msg.Cede): _row(Phase.RUNNING, by=_repeat),",
        "    (Phase.OWNED, msg.Cede): _row(*_NO, by=_refuse_on),\n"
        "    (Phase.RUNNING, msg.Cede): _row(*_NO, by=_refuse_on),",
        "explore",
    ),
    Bug(
        "REFUSED answered while QEMU lives",
        TARGET,
        '            return (do.CancelTimer(f"lease:{m.id}"), do.DestroyGuest(m.uuid, m.id))',
        "            no = _send(m, msg.Refused(m.reason))\n"
        '            return (no, do.CancelTimer(f"lease:{m.id}"), do.DestroyGuest(m.uuid, m.id))',
        "explore",
    ),
    Bug(
        "cede back after STARTED",
        TARGET,
        "    if event.paused:\n",
        "    if True:\n",
        "explore",
    ),
    Bug(
        "run without re-reading the journal",
        "core/migration/ownership.py",
        "    return record is not None and record.epoch == epoch and record.owner == instance",
        "    return True",
        "explore",
    ),
    Bug(
        "forget the strand restore",
        SOURCE,
        "    return _to(m, Phase.RESTORING) if m.shrunk else _release(m)",
        "    return _release(m)",
        "explore",
    ),
    Bug(
        "forget the strand restore on the target",
        TARGET,
        "do.AnnounceGuest(m.uuid), do.SetVcpus(m.uuid, m.vcpus, m.cpus))",
        "do.AnnounceGuest(m.uuid))",
        "explore",
    ),
    Bug(
        "forget the scrub",
        "core/lifecycle/binding.py",
        '        inventory = inventory.put("dirty", f"{region.base:#x}", Freed(region))\n'
        "        effects.append(Scrub(region))",
        "        pass",
        "sim",
    ),
    Bug(
        "scrub, but do not wait for it",
        "core/lifecycle/binding.py",
        '        inventory = inventory.put("dirty", f"{region.base:#x}", Freed(region))\n',
        "",
        "sim",
    ),
    Bug(
        "forget a reservation",
        TARGET,
        "    return _to(m, Phase.GONE, steps.ForgetDomain(m.uuid))\n\n\ndef _say_no",
        "    return _to(m, Phase.GONE)\n\n\ndef _say_no",
        "explore",
    ),
    Bug(
        "forget the lock",
        SOURCE,
        'Phase.RELEASED, *first, steps.UnlockDomain(m.uuid, how if m.live else "cold"))',
        "Phase.RELEASED, *first)",
        "explore",
    ),
    Bug(
        "ask a guest for ever",
        TARGET,
        "    if m.tries + 1 >= steps.RESTORE_TRIES:\n        return _maybe_end",
        "    if m.tries < 0:\n        return _maybe_end",
        "explore",
    ),
    Bug(
        "effects before the journal",
        "daemon/loop.py",
        "        try:\n            self._store.write(batch.changes)\n        except sqlite3.Error",
        "        self._do(batch.effects)\n"
        "        try:\n            self._store.write(batch.changes)\n        except sqlite3.Error",
        "durable",
    ),
    Bug(
        "forget after a restart what is soiled",
        "core/engine.py",
        "            effects.append(do.Scrub(freed.region))",
        "            pass",
        "crashes",
    ),
)
