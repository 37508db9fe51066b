"""The ledger is compared with the stream while that is cheap."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest
from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.stream import HitStream
from hitcounter_indexer.ledger_watch import LedgerWatch
from hitcounter_indexer.metrics import create_metrics
from prometheus_client import CollectorRegistry


@dataclass
class FakeLedger:
    """A stream whose walk finds what it is told to."""

    difference: int = 0
    entries: int = 1
    trouble: Exception | None = None
    publisher: str = "me"
    walks: int = 0
    swept: int = 0

    @property
    def stream(self) -> HitStream:
        return cast("HitStream", SimpleNamespace(as_of=self, consumer=self, monitor=self))

    async def is_publisher(self, publisher: str) -> bool:
        return publisher == self.publisher

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        assert min_idle_ms >= 60_000
        self.swept += 1
        return []

    async def status(self) -> StreamStatus:
        if self.trouble is not None:
            raise self.trouble
        return StreamStatus(Ledger(), self.entries, oldest_ms=None, as_of_ms=None, now_ms=0)

    async def audit_backlog(self, *, max_seconds: float) -> int | None:
        assert max_seconds <= 5
        self.walks += 1
        return self.difference


class Rig:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.ledger = FakeLedger()
        self.watch = LedgerWatch(self.ledger.stream, create_metrics(self.registry).ledger_difference, name="me")

    async def shown(self) -> float | None:
        await self.watch.look_once()
        return self.registry.get_sample_value("hitcounter_ledger_difference_hits")


async def test_a_difference_is_shown_logged_and_shown_to_be_gone(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig()
    rig.ledger.difference = -3
    assert await rig.shown() == -3
    assert "ledger and stream differ" in capsys.readouterr().out
    rig.ledger.difference = 0
    assert await rig.shown() == 0


async def test_a_long_stream_is_not_walked_and_what_was_found_stands() -> None:
    rig = Rig()
    rig.ledger.difference = 5
    await rig.shown()
    rig.ledger.difference, rig.ledger.entries = 0, 1_000_000
    assert await rig.shown() == 5


async def test_only_the_indexer_that_publishes_the_as_of_walks_and_removes_dead_consumers() -> None:
    rig = Rig()
    rig.ledger.difference = 5
    assert await rig.shown() == 5
    assert (rig.ledger.walks, rig.ledger.swept) == (1, 1)
    rig.ledger.publisher = "another"
    assert await rig.shown() == 0
    assert (rig.ledger.walks, rig.ledger.swept) == (1, 1)


@pytest.mark.parametrize("trouble", [StreamUnavailable("away"), ValueError("a bug")])
async def test_what_goes_wrong_does_not_end_the_watch(trouble: Exception) -> None:
    rig = Rig()
    rig.ledger.trouble = trouble
    assert await rig.shown() == 0
