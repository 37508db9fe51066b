"""The as-of is published in an order that makes it true: sample, refresh, publish."""

from __future__ import annotations

import asyncio

import pytest
from hitcounter.errors import IndexUnavailable
from hitcounter_indexer.as_of import AsOfPublisher

from tests.unit.indexer.fakes import REDIS_AWAY, SINK_AWAY, FakeIndices, FakeStream, Journal, until


class LeasedStream(FakeStream):
    """The as-of's side of the stream: a lease that this publisher may or may not hold."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.is_ours = True
        self.is_still_ours = True
        self.lease_ms = 0

    async def sample_as_of(self, publisher: str, *, lease_ms: int) -> int | None:
        self._note("sample", publisher)
        self.lease_ms = lease_ms
        return 1_000 if self.is_ours else None

    async def publish_as_of(self, as_of_ms: int) -> bool:
        self._note("publish", as_of_ms)
        return self.is_still_ours


@pytest.fixture
def journal() -> Journal:
    return []


@pytest.fixture
def stream(journal: Journal) -> LeasedStream:
    return LeasedStream(journal)


@pytest.fixture
def indices(journal: Journal) -> FakeIndices:
    return FakeIndices(journal)


@pytest.fixture
def publisher(stream: LeasedStream, indices: FakeIndices) -> AsOfPublisher:
    return AsOfPublisher(stream, indices, name="me", interval_ms=10)


async def test_sample_is_published_only_after_a_refresh(publisher: AsOfPublisher, journal: Journal) -> None:
    assert await publisher.publish_once() == 1_000
    assert journal == [("sample", "me"), ("refresh", None), ("publish", 1_000)]


async def test_nothing_is_refreshed_while_another_indexer_holds_the_lease(
    publisher: AsOfPublisher, stream: LeasedStream, journal: Journal
) -> None:
    stream.is_ours = False
    assert await publisher.publish_once() is None
    assert journal == [("sample", "me")]


async def test_publisher_that_lost_its_lease_meanwhile_has_published_nothing(
    publisher: AsOfPublisher, stream: LeasedStream
) -> None:
    stream.is_still_ours = False
    assert await publisher.publish_once() is None


async def test_nothing_is_published_when_the_refresh_fails(
    publisher: AsOfPublisher, indices: FakeIndices, journal: Journal
) -> None:
    indices.failures = [SINK_AWAY]
    with pytest.raises(IndexUnavailable):
        await publisher.publish_once()
    assert "publish" not in dict(journal)


async def test_lease_outlasts_several_intervals_and_is_never_too_short(
    stream: LeasedStream, indices: FakeIndices
) -> None:
    for interval_ms, least_ms in ((50, 3_000), (60_000, 120_000)):
        await AsOfPublisher(stream, indices, name="me", interval_ms=interval_ms).publish_once()
        assert stream.lease_ms >= least_ms


async def test_failures_let_the_as_of_stand_still_and_pass(
    publisher: AsOfPublisher, stream: LeasedStream, indices: FakeIndices, journal: Journal
) -> None:
    stream.fail("sample", REDIS_AWAY, REDIS_AWAY)
    indices.failures = [SINK_AWAY]
    task = asyncio.create_task(publisher.run())
    await until(lambda: "publish" in dict(journal))
    publisher.stop()
    await task


async def test_it_is_published_once_more_after_the_last_entry_was_settled(
    stream: LeasedStream, indices: FakeIndices, journal: Journal
) -> None:
    publisher = AsOfPublisher(stream, indices, name="me", interval_ms=60_000)
    task = asyncio.create_task(publisher.run())
    await asyncio.sleep(0)
    assert journal == []
    publisher.stop()
    await task
    assert [name for name, _ in journal] == ["sample", "refresh", "publish"]
