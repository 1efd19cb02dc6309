"""A control group for each guest, from its launch to its end."""

import structlog

from lodom.core import events as ev
from lodom.core.errors import StepFailed
from lodom.core.fsm import Event
from lodom.host import cgroup

_log = structlog.get_logger()


class GuestGroups:
    """Watches the driver's news on their way to the loop."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._flavour = cgroup.flavour()

    def follow(self, event: Event) -> Event:
        """The event itself, after the group has been made or removed.

        A guest without a group of its own still runs; that is logged, and shown by systemd-cgls.
        """
        try:
            if isinstance(event, ev.GuestLaunched):
                cgroup.adopt(self._machine, event.uuid, event.pid, self._flavour)
            elif isinstance(event, ev.GuestGone):
                cgroup.release(self._machine, event.uuid, self._flavour)
        except StepFailed as error:
            _log.warning("no control group", reason=str(error))
        return event
