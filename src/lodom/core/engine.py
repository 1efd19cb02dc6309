"""One machine's mind: an event in, durable changes and effects out.

``handle`` takes one event at a time and never waits.  The caller makes the batch's changes durable
before it carries out any of the batch's effects, in order.  What is not in the inventory (who waits
for an answer, numbers of a copy under way) is lost with the process, and may be.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lodom.core import effects as do
from lodom.core import events as ev
from lodom.core import messages as msg
from lodom.core.commands import (  # noqa: F401
    devices,
    domains,
    io,
    lifecycle,
    resources,
    services,
    spconfig,
)
from lodom.core.commands.form import COMMANDS, Step
from lodom.core.commands.services import refuse_while_switching, switch_failed
from lodom.core.errors import Busy, InvalidValue, LodomError, StepFailed
from lodom.core.fsm import Effect, Effects, Event
from lodom.core.lifecycle import announce, claims, halt, reconf
from lodom.core.lifecycle import domain as life
from lodom.core.lifecycle.factory import first_inventory as first_inventory
from lodom.core.migration import conduct, source, steps, target
from lodom.core.migration.guard import refuse_while_migrating
from lodom.core.migration.orders import (
    CheckFailed,
    CheckTarget,
    RequestLost,
    ReserveAsked,
    TargetChecked,
)
from lodom.core.model.domain import Domain, State
from lodom.core.model.host import Region
from lodom.core.model.inventory import Change, Inventory, Ownership, changes


@dataclass(frozen=True)
class Batch:
    """The outcome of one event: write *changes*, in one transaction; then do *effects*."""

    changes: tuple[Change, ...]
    effects: Effects


@dataclass
class Waiting:
    """Requests that wait for the end of something; volatile."""

    by_key: dict[str, list[str]] = field(default_factory=dict)
    """Domain UUID, ``vsw:NAME``, ``migration:ID``, ``cancel:ID`` to requests."""
    scrubs: dict[str, set[Region]] = field(default_factory=dict)
    """Request to the regions whose scrubbing it awaits."""
    checks: dict[str, Domain] = field(default_factory=dict)
    """Request to the domain, as it stood when its check for a migration began."""
    reshaping: Counter[str] = field(default_factory=Counter)
    """Changes of a domain's CPUs that are under way; gone with the effect."""
    places: set[tuple[str, str]] = field(default_factory=set)
    """(domain, place) of devices that are being plugged or unplugged; gone with the effect."""
    switches: set[str] = field(default_factory=set)
    """Switches whose bridge is being made or changed; gone with the effect."""

    def copy(self) -> "Waiting":
        """As it is now."""
        return Waiting(
            {key: list(requests) for key, requests in self.by_key.items()},
            {request: set(regions) for request, regions in self.scrubs.items()},
            dict(self.checks),
            Counter(self.reshaping),
            set(self.places),
            set(self.switches),
        )


class Engine:
    """The inventory, and the one way to change it."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.numbers: dict[str, Mapping[str, int]] = {}
        """Latest numbers of each copy under way, by migration."""
        self._waiting = Waiting()
        self._undo = (inventory, self._waiting)

    # -- the one entrance ------------------------------------------------------------------------

    def handle(self, event: Event) -> Batch:
        """What *event* changes and causes."""
        before = self.inventory
        self._undo = (before, self._waiting.copy())
        effects = self._dispatch(event)
        return self._batch(before, effects)

    def undo(self) -> None:
        """The last event was not handled: its changes could not be written, or it had a bug."""
        self.inventory, self._waiting = self._undo

    def _batch(self, before: Inventory, effects: list[Effect]) -> Batch:
        for e in effects:
            if isinstance(e, do.SetVcpus):
                self._waiting.reshaping[e.uuid] += 1
            if isinstance(e, do.PlugDevice):
                self._waiting.places.add((e.uuid, e.device.place))
            if isinstance(e, do.UnplugDevice):
                self._waiting.places.add((e.uuid, e.place))
            if isinstance(e, do.MakeSwitch):
                self._waiting.switches.add(e.name)
        return Batch(tuple(changes(before, self.inventory)), tuple(effects))

    def recover(
        self, found: Mapping[str, ev.GuestFound], heard: Mapping[str, Ownership] | None = None
    ) -> Batch:
        """After a restart of ldmd: go on from the journal and from the processes that are there.

        *heard*: what other machines know of domains whose process is gone, or stands since it was
        copied; a higher epoch wins.
        """
        before = self.inventory
        self.inventory = claims.disowned(
            conduct.overtaken(self.inventory, heard or {}), heard or {}
        )
        effects: list[Effect] = []
        for freed in self.inventory.dirty.values():
            effects.append(do.Scrub(freed.region))
        guests = [d for d in self.inventory.sorted_domains() if not d.control]
        for out in list(self.inventory.outgoing.values()):
            effects += self._stepped(*source.recover(out, found.get(out.uuid)))
            effects += self._after_restart(out.uuid, out.id, found.get(out.uuid))
        for into in list(self.inventory.incoming.values()):
            effects += self._stepped(*target.recover(into, found.get(into.uuid)))
            effects += self._after_restart(into.uuid, into.id, found.get(into.uuid))
        for d in guests:
            effects += _console(self.inventory.domains.get(d.uuid))
            if not d.migration:
                effects += self._living(life.recovered(self.inventory, d, found.get(d.uuid)))
        return self._batch(before, effects)

    def _after_restart(self, uuid: str, row: str, found: ev.GuestFound | None) -> list[Effect]:
        """What the process of a migration's domain went through while nobody watched."""
        d = self.inventory.domains.get(uuid)
        if d is None or d.migration != row:
            return []
        if found is None:
            return self._about(ev.GuestGone(uuid)) if d.runtime else []
        news: dict[str, Event] = {
            "shutdown": ev.GuestPoweredOff(uuid),
            "panicked": ev.GuestPanicked(uuid),
        }
        return self._about(news[found.status]) if found.status in news else []

    # -- events ----------------------------------------------------------------------------------

    def _dispatch(self, event: Event) -> list[Effect]:
        match event:
            case ev.CommandGiven():
                return self._command(event)
            case ev.TimerFired(name):
                return self._timer(name)
            case ev.Scrubbed(region):
                return self._scrubbed(region)
            case ev.SwitchMade(_, name, notes):
                self._waiting.switches.discard(name)
                result = {"warnings": list(notes)} if notes else {}
                return self._applied((do.Settle(f"vsw:{name}", result=result),))
            case ev.SwitchGone(request, name, reason):
                what = f"Removing the bridge of virtual switch {name}"
                fault = StepFailed(what=what, reason=reason) if reason else None
                return self._applied((do.Settle(f"gone:{request}", fault),))
            case ev.SwitchFailed(_, name):
                self._waiting.switches.discard(name)
                self.inventory, error = switch_failed(self.inventory, event)
                return self._applied((do.Settle(f"vsw:{name}", error),))
            case ev.Received(migration, message):
                return self._message(migration, message)
            case ev.Unsent(migration):
                row = self.inventory.outgoing.get(migration)
                return self._step_source(row, event) if row else []
            case TargetChecked():
                return self._checked(event)
            case CheckFailed(request, error):
                self._waiting.checks.pop(request, None)
                return [do.Fail(request, error)]
            case ReserveAsked():
                return self._reserve(event)
            case RequestLost(request):
                return self._lost(request)
            case _:
                return self._about(event)

    def _command(self, order: ev.CommandGiven) -> list[Effect]:
        try:
            refuse_while_migrating(self.inventory, order)
            self._refuse_while_reshaping(order)
            refuse_while_switching(self.inventory, order, self._waiting.switches)
            if order.verb in conduct.ORDERS:
                step = conduct.ORDERS[order.verb](self.inventory, order)
            elif order.verb in COMMANDS:
                step = reconf.ordered(self.inventory, order, COMMANDS[order.verb])
            else:
                raise InvalidValue(what="command", value=order.verb, why="not known to this ldmd")
        except LodomError as error:
            return [do.Fail(order.request, error)]
        return self._begun(order, step)

    def _refuse_while_reshaping(self, order: ev.CommandGiven) -> None:
        """Two changes of a guest's CPUs under way could each give back what the other uses."""
        d = self.inventory.find(str(order.arguments.get("ldom")))
        if d and d.uuid in self._waiting.reshaping and order.verb.endswith("-vcpu"):
            raise Busy(what=order.verb, why=f"the CPUs of LDom {d.name} are being changed")
        if d and self._plugging(d.uuid) and order.verb.endswith(("-vdisk", "-vnet", "-variable")):
            raise Busy(what=order.verb, why=f"a device of LDom {d.name} is being changed")

    def _plugging(self, uuid: str) -> bool:
        return any(busy == uuid for busy, _ in self._waiting.places)

    def _begun(self, order: ev.CommandGiven, step: Step) -> list[Effect]:
        before, self.inventory = self.inventory, step.inventory
        for e in step.effects:
            if isinstance(e, CheckTarget):
                self._waiting.checks[e.request] = before.domains[e.uuid]
        if step.waits.startswith("scrub:"):
            regions = {e.region for e in step.effects if isinstance(e, do.Scrub)}
            if not regions:
                return [*step.effects, do.Reply(order.request)]
            self._waiting.scrubs[order.request] = regions
        elif step.waits:
            self._waiting.by_key.setdefault(step.waits, []).append(order.request)
        kind, _, migration = step.waits.partition(":")
        if kind in _ASKED:
            row = before.outgoing[migration]
            return [*step.effects, *self._step_source(row, _ASKED[kind])]
        return self._applied(step.effects)

    def _scrubbed(self, region: Region) -> list[Effect]:
        self.inventory = self.inventory.drop("dirty", f"{region.base:#x}")
        effects: list[Effect] = []
        for request, regions in list(self._waiting.scrubs.items()):
            regions.discard(region)
            if not regions:
                del self._waiting.scrubs[request]
                effects.append(do.Reply(request))
        return effects

    def _timer(self, name: str) -> list[Effect]:
        kind, _, key = name.partition(":")
        if kind in _OF_DOMAINS:
            d = self.inventory.domains.get(key)
            return self._living(_OF_DOMAINS[kind](self.inventory, d)) if d else []
        event = steps.TIMEOUTS[kind]()
        if key in self.inventory.outgoing:
            return self._step_source(self.inventory.outgoing[key], event)
        if key in self.inventory.incoming:
            return self._step_target(self.inventory.incoming[key], event)
        return []

    def forget(self, request: str) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.checks.pop(request, None)
        self._waiting.scrubs.pop(request, None)
        for key, requests in list(self._waiting.by_key.items()):
            kept = [r for r in requests if r != request]
            self._waiting.by_key[key] = kept
            if not kept:
                del self._waiting.by_key[key]

    def _lost(self, request: str) -> list[Effect]:
        self._waiting.checks.pop(request, None)
        for row in self.inventory.outgoing.values():
            if request in self._waiting.by_key.get(f"migration:{row.id}", ()):
                self.forget(request)
                if row.phase in source.BEFORE_CEDED:
                    return self._step_source(row, steps.CancelAsked("the ldm command was killed"))
        return []

    def _about(self, event: Event) -> list[Effect]:
        """News of one domain: to the migration that holds it first, to its own life else."""
        uuid = getattr(event, "uuid", "")
        if isinstance(event, ev.VcpusSet | ev.VcpusRefused):
            self._waiting.reshaping -= Counter([uuid])
        if isinstance(event, ev.DevicePlugged | ev.DeviceUnplugged | ev.DeviceRefused):
            self._waiting.places.discard((uuid, event.place))
        d = self.inventory.domains.get(uuid)
        if d is None:
            return []
        if isinstance(event, ev.GuestUnannounced):
            return self._living(announce.failed(self.inventory, d))
        if isinstance(event, _ORDINARY):
            return self._living(life.happen(self.inventory, d, event))
        out = self.inventory.outgoing.get(d.migration)
        into = self.inventory.incoming.get(d.migration)
        if isinstance(event, ev.CopyProgressed | ev.CopyCompleted):
            self._note_numbers(event.migration, event.numbers)
        if out:
            self._note_online(d, event)
            return [*self._step_source(out, event), *self._reported(out, event)]
        if into:
            self._note_launch(d, event)
            return self._step_target(into, event)
        into = next((r for r in self.inventory.incoming.values() if _restoring(r, uuid)), None)
        if into and isinstance(event, ev.VcpusSet | ev.VcpusRefused):
            self._note_online(d, event)
            return self._step_target(into, event)
        ended = into and isinstance(event, ev.GuestGone)
        effects = self._step_target(into, event) if into and ended else []
        d = self.inventory.domains[uuid]
        return [*effects, *self._living(life.happen(self.inventory, d, event))]

    def _note_numbers(self, migration: str, numbers: Mapping[str, int]) -> None:
        self.numbers[migration] = {**self.numbers.get(migration, {}), **numbers}

    def _note_online(self, d: Domain, event: Event) -> None:
        """Which CPUs the guest runs on; its strands stay its own during a migration."""
        if isinstance(event, ev.VcpusSet) and d.runtime:
            runtime = replace(d.runtime, online=event.vids, plugged=event.plugged)
            self.inventory = self.inventory.with_domain(replace(d, runtime=runtime))

    def _note_launch(self, d: Domain, event: Event) -> None:
        if isinstance(event, ev.GuestLaunched):
            self.inventory = self.inventory.with_domain(conduct.launched(self.inventory, d, event))

    def _living(self, after: life.After) -> list[Effect]:
        self.inventory, effects = after
        return self._applied(effects)

    # -- migrations ------------------------------------------------------------------------------

    def _message(self, migration: str, message: msg.Message) -> list[Effect]:
        if row := self.inventory.incoming.get(migration):
            if isinstance(message, msg.Renew) and message.total:
                numbers = {"total": message.total, "remaining": message.remaining}
                self._note_numbers(migration, numbers)
            return self._step_target(row, message)
        if row := self.inventory.outgoing.get(migration):
            return self._step_source(row, message)
        if isinstance(message, msg.Renew | msg.Recheck | msg.Cede | msg.Abort | msg.Confirm):
            return [do.Send(migration, msg.Unknown())]
        return []

    def _checked(self, event: TargetChecked) -> list[Effect]:
        judged = self._waiting.checks.pop(event.request, None)
        if judged is None:
            return []  # who asked has gone away meanwhile
        same = event.uuid not in self._waiting.reshaping and not self._plugging(event.uuid)
        outcome = conduct.begin(self.inventory, event, judged if same else None)
        if isinstance(outcome, source.SourceMigration):
            self._waiting.by_key[f"migration:{outcome.id}"] = [event.request]
            return self._step_source(outcome, steps.Begun())
        return [outcome]

    def _reserve(self, event: ReserveAsked) -> list[Effect]:
        if row := self.inventory.incoming.get(event.migration):
            return self._step_target(row, event.message)
        if conduct.too_late(self.inventory, event):
            return [do.Send(event.migration, msg.Unknown())]
        admitted = conduct.admit(self.inventory, event)
        if isinstance(admitted, str):
            return [do.Send(event.migration, msg.Refused(admitted))]
        self.inventory, row = admitted
        effects = self._step_target(row, steps.Begun())
        console = self.inventory.domains[row.uuid].bindings
        if console and console.console:
            c = console.console
            name = self.inventory.domains[row.uuid].name
            effects.append(do.OpenConsole(row.uuid, c.group, name, c.port))
        return effects

    def _step_source(self, row: source.SourceMigration, event: Event) -> list[Effect]:
        return self._stepped(*source.step(row, event))

    def _step_target(self, row: target.TargetMigration, event: Event) -> list[Effect]:
        return self._stepped(*target.step(row, event))

    def _stepped(
        self, row: source.SourceMigration | target.TargetMigration, effects: Effects
    ) -> list[Effect]:
        """Keep the row as it is now, and do the step's bookkeeping in the same change."""
        table = "outgoing" if isinstance(row, source.SourceMigration) else "incoming"
        ended = row.phase in (source.Phase.ENDED, target.Phase.ENDED)
        if ended:
            self.inventory = self.inventory.drop(table, row.id)
            self.numbers.pop(row.id, None)
        else:
            self.inventory = self.inventory.put(table, row.id, row)
        done = [self._counted(e) for e in self._applied(effects)]
        if isinstance(row, source.SourceMigration):
            done += self._applied(conduct.answers(row, self.numbers.get(row.id, {})))
        return done

    def _counted(self, e: Effect) -> Effect:
        """A sign of life tells how far the copy is."""
        if not isinstance(e, do.Send) or not isinstance(e.message, msg.Renew):
            return e
        numbers = self.numbers.get(e.migration, {})
        return replace(e, message=msg.Renew(numbers.get("total", 0), numbers.get("remaining", 0)))

    def _reported(self, row: source.SourceMigration, event: Event) -> list[Effect]:
        requests = self._waiting.by_key.get(f"migration:{row.id}", ())
        now = self.inventory.outgoing.get(row.id)
        if now is None:
            return []
        if now.phase is row.phase and not isinstance(event, ev.CopyProgressed):
            return []
        numbers = self.numbers.get(row.id, {})
        progress = {"phase": now.phase.value, **numbers}
        return [do.Report(request, progress) for request in requests]

    # -- bookkeeping -----------------------------------------------------------------------------

    def _applied(self, effects: Effects) -> list[Effect]:
        """Carry out what concerns only the inventory and the waiting; return the rest."""
        rest: list[Effect] = []
        for e in effects:
            if isinstance(e, do.Settle):
                rest += self._settled(e)
            elif isinstance(e, conduct.BOOKKEEPING):
                self.inventory, more = conduct.book(self.inventory, e)
                rest += self._applied(more)
            else:
                rest.append(e)
        return rest

    def _settled(self, e: do.Settle) -> list[Effect]:
        requests = self._waiting.by_key.pop(e.key, ())
        if e.error:
            return [do.Fail(request, e.error) for request in requests]
        result = {**({"say": e.say} if e.say else {}), **e.result}
        return [do.Reply(request, result) for request in requests]


def _console(d: Domain | None) -> list[Effect]:
    """After a restart nobody listens on a bound domain's console port."""
    if d is None or d.bindings is None or d.bindings.console is None or d.state is State.BINDING:
        return []
    console = d.bindings.console
    return [do.OpenConsole(d.uuid, console.group, d.name, console.port)]


def _restoring(row: target.TargetMigration, uuid: str) -> bool:
    """The domain has arrived by this migration, and not yet got all its strands back."""
    return row.uuid == uuid and row.phase is target.Phase.RUNNING and not row.restored


_OF_DOMAINS = {
    "stop": life.stop_timed_out,
    "halt": halt.timed_out,
    "announce": announce.again,
}
"""What a timer of a domain's own life means."""

_ASKED: dict[str, Event] = {
    "cancel": steps.CancelAsked("cancelled by the operator"),
    "recover": steps.RecoverAsked(),
    "drop": steps.DropAsked(),
}
"""What an order about a migration asks of the source's machine."""

_ORDINARY = (
    ev.BackendsChecked,
    ev.ConsoleOpened,
    ev.ConsoleFailed,
    ev.AgentChanged,
    ev.GuestRebooted,
    ev.PanicAnswered,
    ev.DevicePlugged,
    ev.DeviceUnplugged,
    ev.DeviceRefused,
)
"""News that concern a domain's own life, also while a migration holds it."""
