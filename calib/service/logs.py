"""Structured logs on standard error: readable in a terminal, JSON objects elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog
import structlog.tracebacks

from calib.service.settings import LogFormat, LogLevel

# Without the values of local variables: arrays of quotes would drown the log.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(level: LogLevel, form: LogFormat) -> None:
    """Set up structlog for this process."""
    people = form is LogFormat.CONSOLE or (form is LogFormat.AUTO and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if people:
        shared.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    else:
        shared += [_TRACEBACKS, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        # Whatever standard error is when a line is written: a caller may have put it elsewhere.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
