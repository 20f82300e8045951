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


def configure_logs(level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.AUTO) -> None:
    """Set up structlog for this process, and have the client's own lines go the same way."""
    people = form is LogFormat.CONSOLE or (form is LogFormat.AUTO and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.typing.Processor] = [_TRACEBACKS, structlog.processors.JSONRenderer()]
    if people:
        rendering = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    lines = structlog.stdlib.ProcessorFormatter
    handler = _Stderr()
    handler.setFormatter(
        lines(foreign_pre_chain=shared, processors=[lines.remove_processors_meta, *rendering])
    )
    client = logging.getLogger("calib.client")  # a library, which logs as libraries do
    client.handlers = [handler]
    client.setLevel(level.upper())
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        # Whatever standard error is when a line is written: a caller may have put it elsewhere.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


class _Stderr(logging.Handler):
    """Writes to whatever standard error is then."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)  # noqa: T201
