"""The model hypervisor with what befalls real ones at the last bytes of a copy, and panics."""

import random
from typing import Any

from lodom.core import events as ev
from lodom.drivers.model import ModelGuest, ModelHypervisor


class SimulatedHypervisor(ModelHypervisor):
    """``treacherous``: chance that the end of a copy goes wrong in one of the measured ways."""

    def __init__(self, *, chance: random.Random, **adapters: Any) -> None:
        super().__init__(**adapters)
        self._chance = chance
        self.treacherous = 0.0

    def _complete(self, g: ModelGuest, migration: str) -> None:
        wrong = self.treacherous and self._chance.random() < self.treacherous
        if not wrong or g.copy != "device" or not self._linked(g) or g.peer is None:
            super()._complete(g, migration)
            return
        there, _ = g.peer
        if self._chance.random() < 0.5:  # completed, and the target has not got it
            g.status, g.copy = "postmigrate", "completed"
            self._post(ev.CopyCompleted(g.uuid, migration, {}))
            there.fail_incoming(g.uuid)
        else:  # the target has everything, and the source resumes by itself
            other = there.guests[g.uuid]
            other.status, other.copy, other.online = "paused", "completed", g.online
            there._post(ev.IncomingLoaded(g.uuid, migration))
            self.break_stream(g.uuid)
