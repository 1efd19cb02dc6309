"""What it means for core that an effect could not be carried out for a reason nobody foresaw.

Every effect that core waits for has an event that says no; an adapter that crashes instead must not
leave anybody waiting.
"""

from collections.abc import Callable
from typing import Any

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core.errors import Unexpected
from lodom.core.fsm import Effect, Event
from lodom.core.migration.orders import CheckFailed, CheckTarget

_NO: dict[type[Effect], Callable[[Any, str], Event]] = {
    do.LaunchGuest: lambda e, why: ev.GuestLaunchFailed(e.spec.uuid, e.home, why),
    do.RunGuest: lambda e, why: ev.GuestRunFailed(e.uuid, why, paused=False),
    do.AnnounceGuest: lambda e, why: ev.GuestUnannounced(e.uuid, why),
    do.ShutDownGuest: lambda e, why: ev.GuestRefused(e.uuid, "shutdown", why),
    do.PanicGuest: lambda e, why: ev.PanicAnswered(e.uuid, why),
    do.SetVcpus: lambda e, why: ev.VcpusRefused(e.uuid, ((-1, why),)),
    do.PlugDevice: lambda e, why: ev.DeviceRefused(e.uuid, e.device.place, why, plug=True),
    do.UnplugDevice: lambda e, why: ev.DeviceRefused(e.uuid, e.place, why, plug=False),
    do.StartCopy: lambda e, why: ev.CopyFailed(e.uuid, e.migration, why),
    do.FinishCopy: lambda e, why: ev.CopyFailed(e.uuid, e.migration, why),
    do.MakeSwitch: lambda e, why: ev.SwitchFailed(e.request, e.name, why, e.old),
    do.RemoveSwitch: lambda e, why: ev.SwitchGone(e.request, e.name, why),
    do.OpenConsole: lambda e, why: ev.ConsoleFailed(e.uuid, e.port, why),
    do.CheckBackends: lambda e, why: ev.BackendsChecked(e.uuid, (("", why),)),
    do.Send: lambda e, why: ev.Unsent(e.migration, why),
    CheckTarget: lambda e, why: CheckFailed(e.request, Unexpected(detail=why)),
}


def failure(effect: Effect, reason: str) -> Event | None:
    """The event that says that *effect* was not done; None for effects that nobody waits for."""
    no = _NO.get(type(effect))
    return no(effect, reason) if no else None
