"""Reads the counters of each indexer from its /metrics, and measures how long each one took to start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from hitcounter_operator.looks import IndexerCounters
from hitcounter_operator.objects import Pod

_TIMEOUT_SECONDS: Final = 2.0
"""An indexer responds within milliseconds. One that does not is ignored; the others count."""
_CONNECTIONS: Final = 50
_NAMES: Final = ("hitcounter_settled_hits", "hitcounter_busy_seconds", "hitcounter_retried_documents")


def read_counters(text: str) -> IndexerCounters | None:
    """Return the counters of an indexer, summed over all labels; None if these are not the metrics of an indexer.

    Raises:
        ValueError: the text is not in the Prometheus format.
    """
    sums = dict.fromkeys(_NAMES, 0.0)
    found = set()
    for family in text_string_to_metric_families(text):
        if family.name in sums:
            found.add(family.name)
            sums[family.name] = sum(sample.value for sample in family.samples if sample.name == f"{family.name}_total")
    return IndexerCounters(*(sums[name] for name in _NAMES)) if len(found) == len(_NAMES) else None


class Indexers:
    """Reads the metrics of the indexers. A process needs one instance; whoever opened it closes it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def look(self, pods: Sequence[Pod]) -> Mapping[str, IndexerCounters]:
        """Return the counters of each pod that responds, by name."""
        asked = [pod for pod in pods if pod.address]
        answers = await asyncio.gather(*(self._ask(pod) for pod in asked))
        return {pod.name: counters for pod, counters in zip(asked, answers, strict=True) if counters}

    async def _ask(self, pod: Pod) -> IndexerCounters | None:
        try:
            async with self._session.get(f"http://{pod.address}/metrics") as answer:
                return read_counters(await answer.text()) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


class StartWatch:
    """Measures how long pods take to become ready.

    A pod counts once, and only if it became ready after the first check: a pod that was ready then may have become
    ready for a second time.
    """

    def __init__(self) -> None:
        self._known: set[str] | None = None

    def look(self, pods: Sequence[Pod]) -> list[float]:
        """Return the seconds from creation to readiness of each pod that became ready since the last check."""
        ready = {pod.uid: pod for pod in pods if pod.ready_at}
        known, there = self._known, {pod.uid for pod in pods}
        self._known = ((known or set()) & there) | ready.keys()
        if known is None:
            return []
        new = (pod for uid, pod in ready.items() if uid not in known)
        return [(pod.ready_at - pod.created_at).total_seconds() for pod in new if pod.ready_at]


@asynccontextmanager
async def open_indexers() -> AsyncIterator[Indexers]:
    """Open a session for the indexers; close it at the end. It connects at first use."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    # Addresses of pods are reused, so connections are not kept for long.
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=15.0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
        yield Indexers(session)
