"""Housekeeping is done by the indexer with the as-of lease, and no task stops another."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
from hitcounter.elastic import Indices, RetentionReport
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.hits import DAY_MS
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.stream import HitStream
from hitcounter_indexer import housekeeping
from hitcounter_indexer.conditions import Conditions
from hitcounter_indexer.housekeeping import RETENTION, Housekeeping
from hitcounter_indexer.metrics import create_metrics
from prometheus_client import CollectorRegistry


@dataclass
class FakeStores:
    """A stream and indices that show what they are told to, and fail on demand."""

    difference: int = 0
    entries: int = 1
    holder: str | None = "me"
    clock_ms_ahead: int = 0
    """How far the clock of Redis is ahead of our clock."""
    report: RetentionReport = field(default_factory=lambda: RetentionReport(kept=4, dropped=[]))
    failures: dict[str, Exception] = field(default_factory=dict)
    """By the method that fails."""
    done: list[str] = field(default_factory=list)
    hanging: str = ""
    """The method that does not return."""

    @property
    def stream(self) -> HitStream:
        return cast("HitStream", SimpleNamespace(as_of=self, consumer=self, monitor=self))

    async def _do(self, what: str) -> None:
        self.done.append(what)
        if error := self.failures.get(what):
            raise error
        if what == self.hanging:
            await asyncio.Event().wait()

    async def find_publisher(self) -> str | None:
        if error := self.failures.get("find_publisher"):
            raise error
        return self.holder

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        assert min_idle_ms >= 60_000
        await self._do("sweep")
        return ["killed"]

    async def status(self) -> StreamStatus:
        now_ms = time.time_ns() // 1_000_000 + self.clock_ms_ahead
        return StreamStatus(Ledger(), self.entries, oldest_ms=None, as_of_ms=None, now_ms=now_ms)

    async def audit_backlog(self, *, max_seconds: float) -> int | None:
        assert max_seconds <= 5
        await self._do("scan")
        return self.difference

    async def drop_expired(self, now_ms: int, *, is_dry_run: bool) -> RetentionReport:
        assert not is_dry_run
        self.asked_ms = now_ms
        await self._do("delete")
        return self.report


class Rig:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.readiness = Readiness()
        self.stores = FakeStores()
        metrics = create_metrics(self.registry)
        self.housekeeping = Housekeeping(
            self.stores.stream,
            cast("Indices", self.stores),
            Conditions(self.readiness, metrics),
            metrics,
            name="me",
        )

    async def run(self) -> list[str]:
        """Run what is due, and return what was done."""
        self.stores.done.clear()
        await self.housekeeping.run_due()
        return list(self.stores.done)

    @property
    def difference(self) -> float | None:
        return self.registry.get_sample_value("hitcounter_ledger_difference_hits")

    @property
    def is_retention_failing(self) -> bool:
        return self.registry.get_sample_value("hitcounter_retention_failing") == 1

    @property
    def warning(self) -> str:
        return self.readiness.warnings.get(RETENTION, "")


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Housekeeping whose tasks are always due."""
    for period in ("_PERIOD_SECONDS", "_RETENTION_SECONDS"):
        monkeypatch.setattr(housekeeping, period, 0.0)
    return Rig()


ALL = ["scan", "sweep", "delete"]


# ── who does it, and when ────────────────────────────────────────────────────────────────────────────────────────────


async def test_housekeeping_goes_on_while_nobody_keeps_the_lease(rig: Rig) -> None:
    """A recent day is red: every indexer that wants to publish the as-of gives the lease up again at once."""
    rig.stores.holder = None
    assert [await rig.run() for _ in range(4)] == [[], [], ALL, ALL]
    rig.stores.holder = "another"
    assert await rig.run() == []
    rig.stores.holder = None
    assert await rig.run() == []


async def test_only_the_indexer_with_the_lease_does_the_housekeeping(rig: Rig) -> None:
    rig.stores.difference = 5
    rig.stores.holder = "another"
    assert await rig.run() == []
    assert rig.difference == 0
    rig.stores.holder = "me"
    assert await rig.run() == ALL
    assert rig.difference == 5
    rig.stores.holder = "another"
    assert await rig.run() == []
    assert rig.difference == 0


async def test_task_is_not_repeated_before_it_is_due_again() -> None:
    rig = Rig()
    assert await rig.run() == ALL
    assert await rig.run() == []


@pytest.mark.parametrize("failing", ALL)
@pytest.mark.parametrize("error", [StreamUnavailable("away"), IndexUnavailable("away"), ValueError("a bug")])
async def test_task_that_fails_does_not_stop_the_others(rig: Rig, failing: str, error: Exception) -> None:
    rig.stores.failures[failing] = error
    assert await rig.run() == ALL


async def test_only_bugs_are_logged_with_a_traceback(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.stores.failures = {"scan": StreamUnavailable("away"), "sweep": ValueError("a bug")}
    await rig.run()
    assert capsys.readouterr().out.count("housekeeping failed") == 1


@pytest.mark.parametrize("hanging", ALL)
async def test_task_that_hangs_does_not_stop_the_others(
    rig: Rig, hanging: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(housekeeping, "_TASK_MAX_SECONDS", 0.01)
    rig.stores.hanging = hanging
    assert await rig.run() == ALL
    assert "housekeeping took too long" in capsys.readouterr().out


@pytest.mark.parametrize("error", [StreamUnavailable("away"), ValueError("a bug")])
async def test_lease_that_cannot_be_looked_up_leaves_everything_as_it_is(rig: Rig, error: Exception) -> None:
    rig.stores.difference = 5
    await rig.run()
    rig.stores.failures["find_publisher"] = error
    assert await rig.run() == []
    assert rig.difference == 5


# ── ledger and consumers ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_difference_is_shown_logged_and_shown_to_be_gone(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.stores.difference = -3
    await rig.run()
    assert rig.difference == -3
    assert "ledger and stream differ" in capsys.readouterr().out
    rig.stores.difference = 0
    await rig.run()
    assert rig.difference == 0


async def test_a_long_stream_is_not_scanned_and_the_last_result_stays(rig: Rig) -> None:
    rig.stores.difference = 5
    await rig.run()
    rig.stores.difference, rig.stores.entries = 0, 1_000_000
    assert await rig.run() == ["sweep", "delete"]
    assert rig.difference == 5


async def test_removed_consumers_are_logged(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    await rig.run()
    assert "removed consumers of indexers that are gone" in capsys.readouterr().out


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_deleted_indices_are_logged(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.stores.report = RetentionReport(kept=4, dropped=["hits-2020.01.01"])
    await rig.run()
    assert "hits-2020.01.01" in capsys.readouterr().out
    assert rig.warning == ""


async def test_what_has_expired_is_decided_by_the_earlier_of_two_clocks_that_agree(rig: Rig) -> None:
    rig.stores.clock_ms_ahead = -30_000
    await rig.run()
    assert rig.stores.asked_ms <= time.time_ns() // 1_000_000 - 29_000


@pytest.mark.parametrize("days", [-10, 10])
async def test_nothing_is_deleted_while_clocks_differ_and_readiness_says_so(rig: Rig, days: int) -> None:
    rig.stores.clock_ms_ahead = days * DAY_MS
    assert await rig.run() == ["scan", "sweep"]
    assert "no index is deleted: the clock of this machine is 864000 s" in rig.warning
    assert rig.is_retention_failing
    rig.stores.clock_ms_ahead = 0
    assert await rig.run() == ALL
    assert rig.warning == ""
    assert not rig.is_retention_failing


async def test_nothing_is_deleted_for_an_hour_after_our_clock_jumped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    wall_ahead = [1_795_507_200.0]
    monkeypatch.setattr("hitcounter_indexer.housekeeping.time.monotonic", lambda: now[0])
    monkeypatch.setattr("hitcounter_indexer.housekeeping.time.time", lambda: now[0] + wall_ahead[0])
    await rig.run()  # also the first look at the clocks
    now[0], wall_ahead[0] = now[0] + 4000, wall_ahead[0] + 10
    rig.stores.holder = "another"
    await rig.run()
    now[0], wall_ahead[0] = now[0] + 4000, wall_ahead[0] + 86_400
    await rig.run()
    rig.stores.holder = "me"
    now[0] += 3599
    assert await rig.run() == ["scan", "sweep"]
    assert rig.warning == "no index is deleted: the clock of this machine jumped within the last hour"
    now[0] += 1
    assert await rig.run() == ALL


async def test_index_that_has_not_expired_by_the_clock_of_elasticsearch_is_reported(rig: Rig) -> None:
    rig.stores.report = RetentionReport(kept=5, dropped=[], unexpired=["hits-2026.11.20"])
    await rig.run()
    assert rig.warning == "by the clock of Elasticsearch hits-2026.11.20 has not expired"
    assert rig.is_retention_failing
    rig.stores.holder = "another"
    await rig.run()
    assert rig.warning == ""
    assert not rig.is_retention_failing


async def test_elasticsearch_that_refuses_is_reported_until_it_accepts(rig: Rig) -> None:
    rig.stores.failures["delete"] = IndexUnavailable("no permission", status=403)
    await rig.run()
    assert rig.warning == "no permission"
    assert rig.is_retention_failing
    del rig.stores.failures["delete"]
    await rig.run()
    assert rig.warning == ""
