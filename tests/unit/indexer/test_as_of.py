"""The as-of is published in an order that makes it true: sample, refresh, publish."""

from __future__ import annotations

import asyncio

import pytest
from hitcounter.errors import IndexUnavailable
from hitcounter.health import Readiness
from hitcounter.hits import HOUR_MS
from hitcounter.stream import AsOfRegister
from hitcounter_indexer.as_of import AsOfPublisher
from hitcounter_indexer.conditions import ELASTICSEARCH, REDIS, Conditions
from hitcounter_indexer.metrics import create_metrics
from prometheus_client import CollectorRegistry

from tests.unit.indexer.fakes import NOW_MS, REDIS_AWAY, SINK_AWAY, FailsOnDemand, FakeIndices, Journal, until


class FakeRegister(FailsOnDemand, AsOfRegister):
    """A lease that this publisher may or may not hold."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.is_ours = True
        self.is_still_ours = True
        self.lease_ms = 0

    async def sample(self, publisher: str, *, lease_ms: int) -> int | None:
        self._note("sample", publisher)
        self.lease_ms = lease_ms
        return 1_000 if self.is_ours else None

    async def publish(self, as_of_ms: int) -> bool:
        self._note("publish", as_of_ms)
        return self.is_still_ours


@pytest.fixture
def journal() -> Journal:
    return []


@pytest.fixture
def register(journal: Journal) -> FakeRegister:
    return FakeRegister(journal)


@pytest.fixture
def indices(journal: Journal) -> FakeIndices:
    return FakeIndices(journal)


@pytest.fixture
def readiness() -> Readiness:
    return Readiness(REDIS, ELASTICSEARCH)


@pytest.fixture
def conditions(readiness: Readiness) -> Conditions:
    return Conditions(readiness, create_metrics(CollectorRegistry()))


@pytest.fixture
def publisher(register: FakeRegister, indices: FakeIndices, conditions: Conditions) -> AsOfPublisher:
    return AsOfPublisher(register, indices, conditions, name="me", interval_ms=10)


async def test_sample_is_published_only_after_a_refresh(publisher: AsOfPublisher, journal: Journal) -> None:
    assert await publisher.publish_once() == 1_000
    assert journal == [("sample", "me"), ("refresh", None), ("publish", 1_000)]


async def test_nothing_is_refreshed_while_another_indexer_holds_the_lease(
    publisher: AsOfPublisher, register: FakeRegister, journal: Journal
) -> None:
    register.is_ours = False
    assert await publisher.publish_once() is None
    assert journal == [("sample", "me")]


async def test_publisher_that_lost_its_lease_meanwhile_has_published_nothing(
    publisher: AsOfPublisher, register: FakeRegister
) -> None:
    register.is_still_ours = False
    assert await publisher.publish_once() is None


async def test_nothing_is_published_when_the_refresh_fails(
    publisher: AsOfPublisher, indices: FakeIndices, journal: Journal
) -> None:
    indices.failures = [SINK_AWAY]
    with pytest.raises(IndexUnavailable):
        await publisher.publish_once()
    assert "publish" not in dict(journal)


async def test_lease_outlasts_several_intervals_and_is_never_too_short(
    register: FakeRegister, indices: FakeIndices, conditions: Conditions
) -> None:
    for interval_ms, least_ms in ((50, 3_000), (60_000, 120_000)):
        await AsOfPublisher(register, indices, conditions, name="me", interval_ms=interval_ms).publish_once()
        assert register.lease_ms >= least_ms


async def test_publisher_that_cannot_refresh_says_so_and_leaves_the_lease_to_others_for_a_while(
    publisher: AsOfPublisher, register: FakeRegister, indices: FakeIndices, journal: Journal, readiness: Readiness
) -> None:
    """Issue 14, 5: one that reached Redis but not Elasticsearch kept the lease for ever, and nobody published."""
    indices.failures = [SINK_AWAY] * 100
    task = asyncio.create_task(publisher.run())
    await until(lambda: readiness.warnings == {"as-of": "Elasticsearch does not answer"})
    await until(lambda: register.lease_ms == 1)
    await asyncio.sleep(0.3)  # thirty intervals: it asks after 1, 2, 4, 8 and 16 of them
    assert 3 <= sum(1 for name, _ in journal if name == "refresh") <= 6
    publisher.stop()
    await task


async def test_lease_is_kept_while_a_refresh_lasts(
    publisher: AsOfPublisher, indices: FakeIndices, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_lease_ms", 30)
    done = asyncio.Event()

    async def refresh(days: object) -> None:
        await done.wait()

    monkeypatch.setattr(indices, "refresh", refresh)
    task = asyncio.create_task(publisher.publish_once())
    await until(lambda: len(journal) > 3)
    assert {name for name, _ in journal} == {"sample"}
    done.set()
    assert await task == 1_000


async def test_days_of_windows_and_of_hits_dated_ahead_are_refreshed_and_no_others(
    publisher: AsOfPublisher, indices: FakeIndices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter_indexer.as_of.time.time_ns", lambda: (NOW_MS + 16 * HOUR_MS - 60_000) * 1_000_000)
    await publisher.publish_once()
    assert indices.refreshed == [f"hits-2026.11.{day}" for day in (21, 22, 23, 24, 25)]


async def test_failures_let_the_as_of_stand_still_and_pass(
    publisher: AsOfPublisher,
    register: FakeRegister,
    indices: FakeIndices,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register.fail("sample", REDIS_AWAY, REDIS_AWAY)
    monkeypatch.setattr(publisher, "_lease_ms", 10)
    indices.failures = [SINK_AWAY]
    task = asyncio.create_task(publisher.run())
    await until(lambda: "publish" in dict(journal))
    publisher.stop()
    await task


async def test_it_is_published_once_more_after_the_last_entry_was_settled(
    register: FakeRegister, indices: FakeIndices, journal: Journal, conditions: Conditions
) -> None:
    publisher = AsOfPublisher(register, indices, conditions, name="me", interval_ms=60_000)
    task = asyncio.create_task(publisher.run())
    await asyncio.sleep(0)
    assert journal == []
    publisher.stop()
    await task
    assert [name for name, _ in journal] == ["sample", "refresh", "publish", "sample"]
    assert register.lease_ms == 1, "the lease is left to the others"
