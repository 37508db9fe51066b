"""Logs: one JSON object per line in a cluster, readable text on a terminal. There is never a line per hit.

Our code logs through structlog. Libraries log through the standard library, and their lines get the same format. A
warning or error that repeats is logged once, and then once per period with the number of repeats, so that an outage
cannot fill a disk. A line that belongs to a request has its `traceparent` (W3C Trace Context), by which the lines of
all systems that handled the request can be found.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from hitcounter.settings import LogSettings

_QUIET_LIBRARIES = ("elastic_transport", "elasticsearch", "uvicorn", "asyncio", "opentelemetry")
"""They log each failed attempt. Our own lines report the same, with the reason and what happens next."""

_REPEAT_SECONDS: Final = 10.0
"""How often a warning or error that continues is logged again."""


def get_logger() -> FilteringBoundLogger:
    """Return the logger of our own code."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def configure_logging(settings: LogSettings, service: str, **fields: object) -> None:
    """Write all logs of this process to standard error in the given format. Every line has the service and fields."""
    is_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _add_fields({"service": service, **fields}),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level.upper())),
        cache_logger_on_first_use=True,
    )
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if is_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler()
    handler.addFilter(RepeatFilter(handler, _REPEAT_SECONDS))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[_show_repeats, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    for library in _QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)


def bind_traceparent(traceparent: str) -> None:
    """Add the traceparent to every line that the current task logs from now on."""
    structlog.contextvars.bind_contextvars(traceparent=traceparent)


def bind_caller(name: str) -> None:
    """Add the name of the caller's key to every line that the current task logs from now on."""
    structlog.contextvars.bind_contextvars(caller=name)


@dataclass
class _Burst:
    """Equal lines since the last one that was written."""

    last: logging.LogRecord | None = None
    number: int = 0


class RepeatFilter(logging.Filter):
    """Writes the first warning or error of a kind, and then one per period, with the number of repeats.

    Lines are of one kind if logger, level and event are equal; the fields may differ, and those of the last line are
    written. Without an event loop (short commands) every line is written.
    """

    def __init__(self, handler: logging.Handler, period_seconds: float) -> None:
        super().__init__()
        self._handler = handler
        self._period_seconds = period_seconds
        self._bursts: dict[tuple[str, int, str], _Burst] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written now."""
        if record.levelno < logging.WARNING or hasattr(record, "repeats"):
            return True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return True
        event = record.msg.get("event", record.msg) if isinstance(record.msg, dict) else record.msg
        kind = (record.name, record.levelno, str(event))
        burst = self._bursts.get(kind)
        if burst is None:
            self._begin(loop, kind)
            return True
        burst.last = record
        burst.number += 1
        return False

    def _begin(self, loop: asyncio.AbstractEventLoop, kind: tuple[str, int, str]) -> None:
        self._bursts[kind] = _Burst()
        loop.call_later(self._period_seconds, self._end, loop, kind)

    def _end(self, loop: asyncio.AbstractEventLoop, kind: tuple[str, int, str]) -> None:
        burst = self._bursts.pop(kind)
        if burst.last is not None:
            burst.last.repeats = burst.number
            self._begin(loop, kind)
            self._handler.handle(burst.last)


def _show_repeats(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    repeats = getattr(event["_record"], "repeats", None)
    if repeats is not None:
        event["repeats"] = repeats
    return event


def _add_fields(fields: Mapping[str, object]) -> Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, **fields}

    return add
