"""Structured logs on standard error: one line an event, key=value; journald keeps them."""

import logging
import sys

import structlog


def set_up_log(*, debug: bool) -> None:
    """Level info, or every event and effect with *debug*; no colour codes off a terminal."""
    level = logging.DEBUG if debug else logging.INFO
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
