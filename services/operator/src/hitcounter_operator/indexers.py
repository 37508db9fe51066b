"""The indexers, one by one: what each has counted, by its own /metrics, and how long each took to start."""

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
"""An indexer answers within milliseconds; one that does not is left out, and the others count."""
_CONNECTIONS: Final = 50
_NAMES: Final = ("hitcounter_settled_hits", "hitcounter_busy_seconds", "hitcounter_retried_documents")


def read_counters(text: str) -> IndexerCounters | None:
    """Return what an indexer's metrics say, all labels together; None where they are not those of an indexer.

    Raises:
        ValueError: the text is none of Prometheus's.
    """
    sums = dict.fromkeys(_NAMES, 0.0)
    found = set()
    for family in text_string_to_metric_families(text):
        if family.name in sums:
            found.add(family.name)
            sums[family.name] = sum(sample.value for sample in family.samples if sample.name == f"{family.name}_total")
    return IndexerCounters(*(sums[name] for name in _NAMES)) if len(found) == len(_NAMES) else None


class Indexers:
    """Asks the indexers. One instance serves the whole process; closed by who opened it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def look(self, pods: Sequence[Pod]) -> Mapping[str, IndexerCounters]:
        """Return the counters of each pod that answers, by its name."""
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
    """Learns from pods that become ready how long that takes.

    A pod counts once, and only if it was seen to become ready: one that was at the first look may be so again.
    """

    def __init__(self) -> None:
        self._known: set[str] | None = None

    def look(self, pods: Sequence[Pod]) -> list[float]:
        """Return the seconds from creation to readiness of each pod that has become ready for the first time."""
        ready = {pod.uid: pod for pod in pods if pod.ready_at}
        known, there = self._known, {pod.uid for pod in pods}
        self._known = ((known or set()) & there) | ready.keys()
        if known is None:
            return []
        new = (pod for uid, pod in ready.items() if uid not in known)
        return [(pod.ready_at - pod.created_at).total_seconds() for pod in new if pod.ready_at]


@asynccontextmanager
async def open_indexers() -> AsyncIterator[Indexers]:
    """Open the way to the indexers and close it at the end. Connects when first used."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    # A pod's address is soon another pod's: no connection is kept for long.
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=15.0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
        yield Indexers(session)
