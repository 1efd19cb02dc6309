"""Structured logs on standard error: one line an event, JSON off a terminal; journald keeps them.

Each line has ``timestamp``, ``level``, ``event`` (what), and where it applies ``migration`` (the
same on both machines), ``domain`` and ``operation`` (a command).  The loop binds these three around
each event and effect; what an adapter logs meanwhile has them by itself.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog
from structlog.dev import plain_traceback
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from lodom.core.events import TimerFired
from lodom.core.fsm import Effect, Event
from lodom.core.model.inventory import Inventory

FORMATS: Final = ("auto", "json", "text")
_SYSLOG: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}

_TRACEBACKS: Final = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
"""Without the values of local names: one may be a password."""


def set_up_log(*, debug: bool, form: str = "auto") -> None:
    """Level info, or every event and effect with *debug*; no colour codes off a terminal."""
    terminal = sys.stderr.isatty()
    as_json = form == "json" or (form == "auto" and not terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[Processor] = (
        [_TRACEBACKS, _when_and_what_first, structlog.processors.JSONRenderer(default=repr)]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=plain_traceback)]
    )
    if _journald(os.environ, sys.stderr.fileno()):
        ending.append(_with_priority)
    level = logging.DEBUG if debug else logging.INFO
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: logging.getLogger("lodom"),
    )
    handler = logging.StreamHandler(sys.stderr)
    # What libraries log by the standard module gets the same form.
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lodom").setLevel(level)


def _journald(environment: Mapping[str, str], fd: int) -> bool:
    """Whether *fd* is the journal's own stream (sd-daemon: ``JOURNAL_STREAM``)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    found = os.fstat(fd)
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def _when_and_what_first(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """The keys of a line in the order in which one reads it."""
    first = {key: line[key] for key in ("timestamp", "level", "event") if key in line}
    return {**first, **line}


def _with_priority(_: WrappedLogger, method: str, line: Any) -> str:
    """``<6>`` before each line: journald reads the level from it (sd-daemon(3))."""
    prefix = f"<{_SYSLOG.get(method, 6)}>"
    return "\n".join(prefix + one for one in str(line).split("\n"))


# -- what a line is about -----------------------------------------------------------------------


def about(thing: Event | Effect, inventory: Inventory) -> dict[str, str]:
    """``migration``, ``domain``, ``operation`` of an event or effect, those that it has."""
    found: dict[str, str] = {}
    migration = str(getattr(thing, "migration", "") or "")
    uuid = str(getattr(thing, "uuid", "") or getattr(getattr(thing, "spec", None), "uuid", ""))
    if isinstance(thing, TimerFired):  # KIND:MIGRATION or KIND:UUID
        whose = thing.name.partition(":")[2]
        uuid, migration = (whose, "") if whose in inventory.domains else ("", whose)
    domain = inventory.domains.get(uuid)
    migration = migration or (domain.migration if domain else "")
    row: Any = inventory.outgoing.get(migration) or inventory.incoming.get(migration)
    if migration:
        found["migration"] = migration
    if domain or row:
        found["domain"] = domain.name if domain else row.name
    if request := getattr(thing, "request", ""):
        found["operation"] = str(request)
    return found
