"""The catalogue of errors: one class a fault, with its permanent code and its remedy.

An error's fields are its context; its text is derived.  The kind fixes the exit code of ``ldm`` and
the HTTP status of the API.  Codes are never reused.  This module imports nothing of the package.
"""

from dataclasses import dataclass, fields
from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """(slug, HTTP status, exit code of ``ldm``)."""

    INVALID = ("invalid", 400, 2)
    NOT_FOUND = ("not-found", 404, 3)
    WRONG_STATE = ("wrong-state", 409, 4)
    NO_ROOM = ("no-room", 507, 5)
    REFUSED = ("refused", 422, 6)
    PEER = ("peer", 502, 7)
    TRY_LATER = ("try-later", 503, 8)
    DENIED = ("denied", 403, 9)
    FAILED = ("failed", 500, 10)
    BUG = ("bug", 500, 70)

    @property
    def slug(self) -> str:
        """The word for it in JSON."""
        return self.value[0]

    @property
    def http_status(self) -> int:
        """The HTTP status of the API's answer."""
        return self.value[1]

    @property
    def exit_code(self) -> int:
        """The exit code of ``ldm``."""
        return self.value[2]


@dataclass(kw_only=True, eq=False)
class LodomError(Exception):
    """Base of all faults that a user can meet.

    Subclasses set ``code``, ``kind`` and ``template`` and have a ``Remedy:`` in their docstring.
    """

    code: ClassVar[str] = ""
    kind: ClassVar[Kind] = Kind.BUG
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        """The sentence an operator reads; no trailing dot."""
        return self.template.format(**self.context())

    def context(self) -> dict[str, object]:
        """The fields, for JSON and for the template."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def remedy(cls) -> str:
        """The ``Remedy:`` paragraph of the docstring, on one line."""
        _, _, text = (cls.__doc__ or "").partition("Remedy:")
        return " ".join(text.replace("``", "").split())


# -- usage and names ----------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class InvalidValue(LodomError):
    """A value on the command line, in a file or in a request cannot be used.

    Remedy:
        Correct the value; ``ldm --help COMMAND`` shows the form.
    """

    code = "LDM-001"
    kind = Kind.INVALID
    template = "Invalid {what} {value!r}: {why}"
    what: str
    value: str
    why: str


@dataclass(kw_only=True, eq=False)
class DomainUnknown(LodomError):
    """No domain of that name on this machine.

    Remedy:
        ``ldm list`` shows the domains of this machine.
    """

    code = "LDM-002"
    kind = Kind.NOT_FOUND
    template = 'LDom "{name}" was not found'
    name: str


@dataclass(kw_only=True, eq=False)
class ObjectUnknown(LodomError):
    """A service, volume, device or operation that was named does not exist.

    Remedy:
        ``ldm list-services`` and ``ldm list-bindings`` show what exists.
    """

    code = "LDM-003"
    kind = Kind.NOT_FOUND
    template = '{what} "{name}" does not exist{where}'
    what: str
    name: str
    where: str = ""


@dataclass(kw_only=True, eq=False)
class AlreadyExists(LodomError):
    """A name that must be new is taken.

    Remedy:
        Choose another name, or remove the old one first.
    """

    code = "LDM-004"
    kind = Kind.WRONG_STATE
    template = '{what} "{name}" already exists{where}'
    what: str
    name: str
    where: str = ""


@dataclass(kw_only=True, eq=False)
class InUse(LodomError):
    """The thing to be removed or taken is used by something else.

    Remedy:
        Remove the user that the message names first, or use ``-f`` where the command has it.
    """

    code = "LDM-005"
    kind = Kind.WRONG_STATE
    template = '{what} "{name}" is in use by {user}'
    what: str
    name: str
    user: str


@dataclass(kw_only=True, eq=False)
class WrongState(LodomError):
    """The command does not fit the state that the domain is in.

    Remedy:
        Bring the domain into the state that the message names (bind, start, stop, unbind).
    """

    code = "LDM-006"
    kind = Kind.WRONG_STATE
    template = "LDom {name} {why}"
    name: str
    why: str


@dataclass(kw_only=True, eq=False)
class NotForControlDomain(LodomError):
    """The command is not for the control domain.

    Remedy:
        Name a guest domain.
    """

    code = "LDM-007"
    kind = Kind.REFUSED
    template = "{verb} is not allowed for the control domain primary"
    verb: str


@dataclass(kw_only=True, eq=False)
class NotSupported(LodomError):
    """A feature that this host, this kernel or this version does not have.

    Remedy:
        ``ldmd --doctor`` shows what the host lacks and how to get it.
    """

    code = "LDM-008"
    kind = Kind.REFUSED
    template = "{what} is not supported here: {why}"
    what: str
    why: str


@dataclass(kw_only=True, eq=False)
class ConfigInvalid(LodomError):
    """machine.toml cannot be used as it stands.

    Remedy:
        Correct the line that the message names; a key that is left out takes its default.
    """

    code = "LDM-009"
    kind = Kind.INVALID
    template = "{file}{line}: {key}{why}"
    file: str
    line: str
    key: str
    why: str


@dataclass(kw_only=True, eq=False)
class BadUsage(LodomError):
    """The words of a command line do not form a command.

    Remedy:
        ``ldm --help`` lists the commands, ``ldm --help COMMAND`` shows one.
    """

    code = "LDM-010"
    kind = Kind.INVALID
    template = "{problem}"
    problem: str
    usage: str = ""


# -- room ---------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class StrandsExhausted(LodomError):
    """Fewer strands are free than the domain asks for.

    Remedy:
        Take strands from another domain (``ldm remove-vcpu``) or ask for fewer.
    """

    code = "LDM-020"
    kind = Kind.NO_ROOM
    template = "Not enough free CPUs present: {wanted} wanted, {free} free"
    wanted: int
    free: int


@dataclass(kw_only=True, eq=False)
class MemoryExhausted(LodomError):
    """Less memory is free than the domain asks for.

    Remedy:
        Free memory (``ldm unbind-domain``, ``ldm set-memory``) or ask for less.
    """

    code = "LDM-021"
    kind = Kind.NO_ROOM
    template = "Not enough free memory present to meet this request: {wanted} wanted, {free} free"
    wanted: str
    free: str


@dataclass(kw_only=True, eq=False)
class MemoryScattered(LodomError):
    """Enough memory is free, but in more pieces than a domain may have blocks.

    Remedy:
        Unbind or move a domain that lies between free ranges; ``ldm unbind-domain`` and
        ``ldm bind-domain`` give a domain its memory anew in the fewest blocks.
    """

    code = "LDM-025"
    kind = Kind.NO_ROOM
    template = "{free} of memory are free, but {wanted} would take more than {most} blocks"
    wanted: str
    free: str
    most: int


@dataclass(kw_only=True, eq=False)
class NoFreePort(LodomError):
    """Every console port of the concentrator is taken.

    Remedy:
        Widen it with ``ldm set-vcc port-range=x-y``, or unbind a domain.
    """

    code = "LDM-022"
    kind = Kind.NO_ROOM
    template = "No free console port in {vcc} ({port_range})"
    vcc: str
    port_range: str


@dataclass(kw_only=True, eq=False)
class CryptoExhausted(LodomError):
    """Fewer crypto units are free in reach of the domain than it asks for.

    Remedy:
        A unit is usable with a strand of its core; ``ldm list-devices crypto`` shows the free ones.
    """

    code = "LDM-023"
    kind = Kind.NO_ROOM
    template = (
        "Not enough free cryptographic units present: {wanted} wanted, "
        "{free} free in the cores of its strands"
    )
    wanted: int
    free: int


@dataclass(kw_only=True, eq=False)
class HugePagesShort(LodomError):
    """The kernel cannot make as many huge pages as the memory pool needs.

    Remedy:
        Free memory and try the command of the message; reserve the pages at boot
        (``hugepages=N`` on the kernel's command line); or take less in machine.toml, section
        [memory].
    """

    code = "LDM-024"
    kind = Kind.NO_ROOM
    template = (
        "{missing} huge pages of {page} are missing of {wanted} more that the memory pool needs; "
        "to try by hand: {command}"
    )
    page: str
    wanted: int
    missing: int
    command: str


# -- operations ---------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class Busy(LodomError):
    """Another operation holds the domain or the machine.

    Remedy:
        Wait until it ends (``ldm list -o status``), or cancel it.
    """

    code = "LDM-030"
    kind = Kind.TRY_LATER
    template = "{what} is not permitted: {why}"
    what: str
    why: str


@dataclass(kw_only=True, eq=False)
class StepFailed(LodomError):
    """Something outside ldmd (QEMU, the kernel, a file) refused; its own words are shown.

    Remedy:
        Mend what the message names; the domain is as it was before the command.
    """

    code = "LDM-031"
    kind = Kind.FAILED
    template = "{what} failed: {reason}"
    what: str
    reason: str


@dataclass(kw_only=True, eq=False)
class GuestUnable(LodomError):
    """The guest cannot do what was asked: no agent answers, or it refused.

    Remedy:
        Install and start qemu-guest-agent in the guest; ``ldm stop-domain -f`` stops without it.
    """

    code = "LDM-032"
    kind = Kind.REFUSED
    template = "{what} on {name} failed: {reason}"
    what: str
    name: str
    reason: str


@dataclass(kw_only=True, eq=False)
class CpuReconfigurationDisabled(LodomError):
    """CPU DR is off for a migrated domain until it has been rebooted (R07).

    Remedy:
        Reboot the domain; then CPU DR works again (R08).
    """

    code = "LDM-033"
    kind = Kind.REFUSED
    template = "CPU dynamic reconfiguration is disabled for LDom {name} until it is rebooted"
    name: str


@dataclass(kw_only=True, eq=False)
class WrongPool(LodomError):
    """The memory pool of this machine was made with other values than machine.toml has now.

    Remedy:
        Put the old values of section [memory] back; or stop all domains and restart the host,
        which ends the pool and makes it anew.
    """

    code = "LDM-034"
    kind = Kind.WRONG_STATE
    template = "The memory pool at {path} was made with other regions, backing or kept ranges"
    path: str


@dataclass(kw_only=True, eq=False)
class DeviceKept(LodomError):
    """The guest does not let go of a device that is to be removed; it has it as before.

    Remedy:
        In the guest, unmount the file systems of the disk and end what uses it; then repeat.
        ``-f`` removes a disk that is in use.  A guest whose system does not answer has to be
        stopped first.
    """

    code = "LDM-035"
    kind = Kind.REFUSED
    template = "LDom {ldom} keeps {name}: {reason}"
    ldom: str
    name: str
    reason: str


# -- peers and migration ------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class PeerUnreachable(LodomError):
    """No ldmd answers at the target.

    Remedy:
        Nothing has been changed.  Check the name and the link, that ldmd runs there and that port
        6482 is open.
    """

    code = "LDM-040"
    kind = Kind.PEER
    template = "Failed to establish connection with ldmd on target: {host} ({reason})"
    host: str
    reason: str


@dataclass(kw_only=True, eq=False)
class PeerUntrusted(LodomError):
    """The target's certificate is not the one that was accepted, or none was accepted yet.

    Remedy:
        Compare the fingerprint with ``ldm-setup fingerprint`` on the target, then accept it with
        ``ldm-setup trust HOST``.
    """

    code = "LDM-041"
    kind = Kind.PEER
    template = "The certificate of target {host} is not trusted: fingerprint {fingerprint} {why}"
    host: str
    fingerprint: str
    why: str


@dataclass(kw_only=True, eq=False)
class PeerDenied(LodomError):
    """The target refused the user or the password.

    Remedy:
        Check user and password; the user needs write authorisation on the target.
    """

    code = "LDM-042"
    kind = Kind.DENIED
    template = "Invalid password or user for {host}"
    host: str


@dataclass(kw_only=True, eq=False)
class PeerTooOld(LodomError):
    """The two ldmds share no protocol version.

    Remedy:
        Upgrade the older one; a release works with the one before it.
    """

    code = "LDM-043"
    kind = Kind.PEER
    template = "Target {host} speaks protocol {theirs}, this machine {ours}"
    host: str
    theirs: str
    ours: str


@dataclass(kw_only=True, eq=False)
class MigrationRefused(LodomError):
    """One or more rules forbid the migration; the findings are listed above this line.

    Remedy:
        Mend each finding; ``ldm migrate-domain -n -v`` shows rule ids and remedies.
    """

    code = "LDM-044"
    kind = Kind.REFUSED
    template = "Domain Migration of LDom {name} {verdict}"
    name: str
    verdict: str = "failed"
    findings: tuple[object, ...] = ()
    drawing: str = ""
    rules: str = ""
    """The set of rules that was used: "1.2" or "3.x"."""


@dataclass(kw_only=True, eq=False)
class MigrationFailed(LodomError):
    """The migration ended without moving the domain; it runs on at the source.

    Remedy:
        Mend the cause in the line above and migrate again.
    """

    code = "LDM-045"
    kind = Kind.FAILED
    template = "{reason}\nDomain Migration of LDom {name} failed"
    name: str
    reason: str


@dataclass(kw_only=True, eq=False)
class MigrationInDoubt(LodomError):
    """The target does not answer after ownership was handed to it.

    Remedy:
        Restore the link; the pair ends it by itself.  If the target is lost for ever:
        ``ldm recover-domain NAME``.
    """

    code = "LDM-046"
    kind = Kind.PEER
    template = (
        "No answer from {host} since LDom {name} was handed over; it stays suspended here "
        "(flag e) until the target answers"
    )
    name: str
    host: str


@dataclass(kw_only=True, eq=False)
class CannotCancel(LodomError):
    """The migration cannot be cancelled from here or not any more.

    Remedy:
        Run ``ldm cancel-operation migration`` on the source machine; after the hand-over, wait.
    """

    code = "LDM-047"
    kind = Kind.WRONG_STATE
    template = "The migration of LDom {name} cannot be cancelled: {why}"
    name: str
    why: str


@dataclass(kw_only=True, eq=False)
class PeerRefused(LodomError):
    """The target's ldmd understood the request and said no, or could not carry it out.

    Remedy:
        Mend what the message names on the target; the log of its ldmd says more.
    """

    code = "LDM-048"
    kind = Kind.PEER
    template = "Target {host} refused: {reason}"
    host: str
    reason: str


@dataclass(kw_only=True, eq=False)
class PeerForgot(LodomError):
    """The target's ldmd knows nothing of the migration: neither a yes nor a no.

    Remedy:
        If it was reinstalled or restored from a backup: ``ldm recover-domain NAME``.
    """

    code = "LDM-049"
    kind = Kind.PEER
    template = "Target {host} does not know migration {migration}"
    host: str
    migration: str


@dataclass(kw_only=True, eq=False)
class NotAuthorised(LodomError):
    """The user lacks the role for the command.

    Remedy:
        Ask an administrator for the ``write`` (or ``read``) role in machine.toml, section [auth].
    """

    code = "LDM-050"
    kind = Kind.DENIED
    template = "Authorization failed: user {user} lacks the {role} role"
    user: str
    role: str


@dataclass(kw_only=True, eq=False)
class GuestHangs(LodomError):
    """The migration was given up, and the domain's process does not do as it is told since.

    Remedy:
        If it answers again, all ends by itself.  If not: ``ldm recover-domain NAME`` names the
        process and, on consent, ends it and starts the domain anew.
    """

    code = "LDM-051"
    kind = Kind.FAILED
    template = (
        "{reason}\nDomain Migration of LDom {name} failed, and its process on this machine does "
        "not answer (flag e)"
    )
    name: str
    reason: str


@dataclass(kw_only=True, eq=False)
class Unexpected(LodomError):
    """A bug of Lodom; the log has the details.

    Remedy:
        Report it with the log of ldmd.
    """

    code = "LDM-090"
    kind = Kind.BUG
    template = "Internal error: {detail}"
    detail: str


def catalogue() -> tuple[type[LodomError], ...]:
    """Every error class, sorted by code."""
    return tuple(sorted(LodomError.__subclasses__(), key=lambda e: e.code))
