"""Probes the indices whose circuit breaker is open, and reports which breakers open and close."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence

from hitcounter.errors import IndexUnavailable
from hitcounter.logs import get_logger
from hitcounter.stream import StreamConsumer

from hitcounter_indexer.breaker import CircuitBreakers
from hitcounter_indexer.conditions import Conditions
from hitcounter_indexer.documents import Action
from hitcounter_indexer.metrics import IndexerMetrics
from hitcounter_indexer.outcomes import STORED, ItemOutcome
from hitcounter_indexer.sink import Sink

log = get_logger()


class Prober:
    """Opens and closes the circuit breakers of one indexer."""

    def __init__(
        self,
        stream: StreamConsumer,
        sink: Sink,
        breakers: CircuitBreakers,
        metrics: IndexerMetrics,
        conditions: Conditions,
    ) -> None:
        self._stream = stream
        self._sink = sink
        self._breakers = breakers
        self._metrics = metrics
        self._conditions = conditions

    def is_open(self, index: str) -> bool:
        """Return whether the circuit breaker of the index is open."""
        return self._breakers.is_open(index)

    def note_refused(self, index: str, reason: str, since: float) -> None:
        """Record that an index refused documents, in a request sent at that time; report it if its breaker opens."""
        if self._breakers.note_refused(index, since):
            self._metrics.open_circuit_breakers.set(self._breakers.open_count)
            self._conditions.note_degraded(index, f"circuit breaker open: {reason}")

    def take_due_probes(self) -> list[Callable[[], Awaitable[None]]]:
        """Return the probes that are due, for the caller to send. They need not wait for each other.

        If an index accepts its probe, its circuit breaker closes.
        """
        due = self._breakers.take_due_probes()
        return [functools.partial(self._probe, index, documents) for index, documents in due.items()]

    async def _probe(self, index: str, documents: Sequence[tuple[str, Action]]) -> None:
        """Close the breaker if the index accepts a document, or if none waits any more: the next one is sent then."""
        refusal: str | None = "not probed"
        try:
            # Somebody may have rejected an entry meanwhile. Its hits count as dead, so they must not be written.
            pending = await self._stream.find_pending([entry_id for entry_id, _ in documents])
            actions = [action for entry_id, action in documents if entry_id in pending]
            refusal = await self._send_probe(actions) if actions else None
        finally:
            self._breakers.note_probed(index, is_closing=refusal is None)
            self._metrics.open_circuit_breakers.set(self._breakers.open_count)
        if refusal is None:
            self._conditions.clear_degraded(index)
            log.info("circuit breaker closed", index=index)
        else:
            self._conditions.note_degraded(index, f"circuit breaker open: {refusal}")

    async def _send_probe(self, actions: Sequence[Action]) -> str | None:
        """Send documents of one index; return why it does not accept them, or None if it does.

        They do not queue with the bulks, because Elasticsearch may take as long for them as for a bulk. When their
        entries are delivered again, they are duplicates, and are flushed.
        """
        try:
            results = await self._sink.write(actions)
        except IndexUnavailable as error:
            return str(error)
        is_refusing = any(result.outcome is ItemOutcome.RETRY or result.is_shard_refusal for result in results)
        if is_refusing or all(result.outcome is ItemOutcome.HOLD for result in results):
            return next((result.description for result in results if result.outcome not in STORED), "")
        self._breakers.note_accepted([actions[0].index_name])
        return None
