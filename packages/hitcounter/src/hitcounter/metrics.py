"""Metrics: how a part makes its registry. Each package declares its own metrics once, in a frozen dataclass.

The numbers of the ledger are gauges, since Redis may step back if it loses its last second; rates come from the
counters of each process.
"""

from __future__ import annotations

import math
import platform
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Info
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from hitcounter import __version__
from hitcounter.ledger import StreamStatus


def create_registry(service: str) -> CollectorRegistry:
    """Return a registry with what every process of ours tells: its build, and the process's own figures."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    build = Info("hitcounter_build", "What runs here.", registry=registry)
    build.info({"service": service, "version": __version__, "python": platform.python_version()})
    return registry


_STATES: Final = ("accepted", "indexed", "duplicate", "dead")


class QueueMetrics:
    """The ledger and the queue as gauges: the same for every process that shows them, so take max, never sum."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ledger = Gauge(
            "hitcounter_ledger_hits",
            "Hits by what became of them, over all time: accepted = indexed + duplicate + dead + backlog.",
            ["state"],
            registry=registry,
        )
        self._backlog = Gauge(
            "hitcounter_backlog_hits", "Queue depth: hits accepted and not yet settled.", registry=registry
        )
        self._entries = Gauge("hitcounter_backlog_entries", "Entries in the stream.", registry=registry)
        self._oldest_age = Gauge(
            "hitcounter_oldest_age_seconds", "Age of the oldest unsettled entry; 0 for none.", registry=registry
        )
        self._as_of = Gauge(
            "hitcounter_as_of_timestamp_seconds",
            "Every hit accepted before this Unix time is countable or a dead letter.",
            registry=registry,
        )

    def show(self, status: StreamStatus) -> None:
        """Set the gauges to one look at the stream."""
        ledger = status.ledger
        for state in _STATES:
            self._ledger.labels(state).set(getattr(ledger, state))
        self._backlog.set(ledger.backlog)
        self._entries.set(status.entries)
        self._oldest_age.set(status.oldest_age_seconds)
        if status.as_of_ms is not None:
            self._as_of.set(status.as_of_ms / 1000)

    def hide(self) -> None:
        """Set the gauges to not-a-number: what was seen last would, by max, hide what the other processes see.

        Not the as-of: it stays true, and is only ever exceeded.
        """
        for state in _STATES:
            self._ledger.labels(state).set(math.nan)
        for gauge in (self._backlog, self._entries, self._oldest_age):
            gauge.set(math.nan)
