"""The as-of is true however hits, turns of indexers, publications, crashes and reads fall between one another.

Everything is real, but each call to a store waits at a gate until hypothesis lets it through: so it chooses the order
in which two indexers, two publishers and a reader do what they do, and who dies before which call.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

import pytest
from hitcounter.codec import PRODUCER_BYTES, build_batch
from hitcounter.elastic import Indices, open_client
from hitcounter.health import Readiness
from hitcounter.hits import Hit
from hitcounter.indices import index_of, indices_to_prepare
from hitcounter.metrics import QueueMetrics
from hitcounter.settings import ElasticsearchSettings, IndexSettings, RedisSettings
from hitcounter.stream import open_stream
from hitcounter_api import metrics as api_metrics
from hitcounter_api.counts import CountReader
from hitcounter_api.queue_watch import QueueWatch
from hitcounter_api.reads import Answer, Reads
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_indexer import metrics as indexer_metrics
from hitcounter_indexer.as_of import AsOfPublisher
from hitcounter_indexer.conditions import Conditions
from hitcounter_indexer.indexer import Indexer
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import ElasticsearchSink
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis

IDS: Final = ("a", "b")
PLAYERS: Final = (0, 1)
_CALLS_OF_A_PUBLICATION: Final = 4
"""To begin, to sample, to refresh and to publish."""
# What is pending is taken over at nearly every turn, also from those who live: more disorder than any real setting.
_SETTINGS: Final = IndexerSection.model_construct(
    **{**IndexerSection().model_dump(), "reclaim_after_seconds": 0.005, "block_ms": 1, "bulk_max_age_ms": 0}
)


class Gate:
    """Stops its player before each call until the player may go on."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._open = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next `let_on`."""
        self._open.clear()
        self.arrived.set()
        await self._open.wait()

    def let_on(self) -> None:
        """Let the player do one call."""
        self.arrived.clear()
        self._open.set()


class OpenGate(Gate):
    """Stops nobody."""

    async def wait(self) -> None:
        """Go on."""


class Gated:
    """Any object, with a gate before each of its asynchronous methods."""

    def __init__(self, target: object, gate: Gate) -> None:
        self._target = target
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*arguments: object, **options: object) -> object:
            await self._gate.wait()
            return await found(*arguments, **options)

        return call


class Player:
    """Someone whose work can be done call by call, and who can die in between."""

    def __init__(self, build_work: Callable[[Gate], Callable[[], Awaitable[Any]]]) -> None:
        self._build_work = build_work
        self._gate = Gate()
        self._work = build_work(self._gate)
        self._task: asyncio.Future[Any] | None = None

    async def advance(self) -> Any:
        """Begin, or do one more call; return the result when the work is done, else None."""
        if self._task is None:
            self._gate.arrived.clear()
            self._task = asyncio.ensure_future(self._work())
        else:
            self._gate.let_on()
        arrived = asyncio.ensure_future(self._gate.arrived.wait())
        await asyncio.wait([arrived, self._task], return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        if not self._task.done():
            return None
        task, self._task = self._task, None
        return task.result()

    async def die(self) -> None:
        """Stop before the next call, for ever; another one of the same kind takes the place."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None
        self._gate = Gate()
        self._work = self._build_work(self._gate)


class World:
    """One installation in real stores; used by all examples, one after the other."""

    def __init__(self, redis_url: str, elasticsearch_url: str) -> None:
        self.name = f"t{secrets.token_hex(4)}"
        self._redis_url = redis_url
        self.redis_settings = RedisSettings(url=SecretStr(redis_url), prefix=self.name)
        self.elasticsearch_settings = ElasticsearchSettings(url=elasticsearch_url, index_prefix=self.name)
        self.runner = asyncio.Runner()
        self._open = contextlib.AsyncExitStack()
        self._producer = secrets.token_bytes(PRODUCER_BYTES)
        self._sequence = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it in the one loop of this world."""
        return self.runner.run(work)

    async def open(self) -> None:
        """Connect, and make the index; nothing but a publisher refreshes it."""
        self.stream = await self._open.enter_async_context(open_stream(self.redis_settings))
        self._redis = await self._open.enter_async_context(Redis.from_url(self._redis_url))
        self.client = await self._open.enter_async_context(open_client(self.elasticsearch_settings))
        self.indices = Indices(self.client, self.name, IndexSettings(replicas=0))
        await self.stream.consumer.ensure_group()
        await self.indices.ensure(indices_to_prepare(self.name, _now_ms()))
        await self.client.indices.put_settings(index=f"{self.name}-*", settings={"index.refresh_interval": -1})

    async def close(self) -> None:
        """Disconnect."""
        await self.client.indices.delete(index=index_of(self.name, _now_ms()))
        await self._open.aclose()

    async def hit(self, id_: str, hits: int) -> int:
        """Have hits accepted; return a time after that."""
        self._sequence += 1
        batch = build_batch(self._producer, self._sequence, [Hit(id_, _now_ms())] * hits)
        await self.stream.producer.append(batch, timeout_seconds=10)
        return (await self.stream.monitor.status()).now_ms

    def build_turn(self, gate: Gate) -> Callable[[], Awaitable[int]]:
        """Return what an indexer does in one turn."""
        return self._build_indexer(
            Gated(self.stream.consumer, gate), Gated(ElasticsearchSink(self.client, self.indices), gate)
        )

    def build_publication(self, gate: Gate, who: int) -> Callable[[], Awaitable[int | None]]:
        """Return what a publisher does each time."""
        register, indices = Gated(self.stream.as_of, gate), Gated(self.indices, gate)
        conditions = Conditions(Readiness(), indexer_metrics.create_metrics(CollectorRegistry()))
        name = f"publisher-{who}"
        return AsOfPublisher(register, indices, conditions, name=name, interval_ms=50).publish_once  # type: ignore[arg-type]

    async def end_lease(self) -> None:
        """Do what time does to a publisher that was silent for too long."""
        await self._redis.delete(self.stream.keys.as_of_lease)

    def build_read(self, gate: Gate, id_: str) -> Callable[[], Coroutine[Any, Any, Answer]]:
        """Return what the API does for one read of the id."""
        registry = CollectorRegistry()
        watch = QueueWatch(self.stream.monitor, QueueMetrics(registry), Readiness())
        reads = Reads(
            Gated(CountReader(self.client, self.name, timeout_seconds=10), gate),
            watch,
            api_metrics.create_metrics(registry),
            max_concurrent=1,
            max_wait_seconds=10,
            remembered_ids=0,
        )

        async def read() -> Answer:
            await Gated(watch, gate).look()
            return await reads.read(id_, _now_ms)

        return read

    async def settle_all(self) -> None:
        """Bring every entry to its end."""
        turn = self._build_indexer(self.stream.consumer, ElasticsearchSink(self.client, self.indices))
        while await turn():
            pass

    def _build_indexer(self, stream: Any, sink: Any) -> Callable[[], Awaitable[int]]:
        return Indexer(
            consumer=secrets.token_hex(4),
            stream=stream,
            sink=sink,
            indices=self.indices,
            settings=_SETTINGS,
            metrics=indexer_metrics.create_metrics(CollectorRegistry()),
            readiness=Readiness(),
        ).run_once


class Interleaving(RuleBasedStateMachine):
    """What may happen, in any order."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._name = secrets.token_hex(4)
        self._accepted: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._indexers = [Player(world.build_turn) for _ in PLAYERS]
        self._publishers = [Player(partial(world.build_publication, who=who)) for who in PLAYERS]
        self._readers = {id_: Player(self._reader_of(id_)) for id_ in IDS}

    @rule(id_=st.sampled_from(IDS), hits=st.integers(1, 3))
    def hit(self, id_: str, hits: int) -> None:
        self._accepted[id_].append((self._world.run(self._world.hit(self._name_of(id_), hits)), hits))

    @rule(who=st.sampled_from(PLAYERS), calls=st.integers(1, 6))
    def index(self, who: int, calls: int) -> None:
        for _ in range(calls):
            self._world.run(self._indexers[who].advance())

    @rule()
    def index_all(self) -> None:
        self._world.run(self._world.settle_all())

    @rule(who=st.sampled_from(PLAYERS))
    def crash_indexer(self, who: int) -> None:
        self._world.run(self._indexers[who].die())

    @rule(who=st.sampled_from(PLAYERS), calls=st.integers(1, 4))
    def publish(self, who: int, calls: int) -> None:
        for _ in range(calls):
            self._world.run(self._publishers[who].advance())

    @rule(who=st.sampled_from(PLAYERS))
    def crash_publisher(self, who: int) -> None:
        self._world.run(self._publishers[who].die())

    @rule()
    def let_the_lease_end(self) -> None:
        self._world.run(self._world.end_lease())

    @invariant()
    def a_read_without_a_break_is_true(self) -> None:
        for id_, hits in self._accepted.items():
            if hits:
                self._check(id_, self._world.run(self._reader_of(id_)(OpenGate())()))

    @rule(id_=st.sampled_from(IDS), calls=st.integers(1, 3))
    def read(self, id_: str, calls: int) -> None:
        for _ in range(calls):
            answer = self._world.run(self._readers[id_].advance())
            if answer is not None:
                self._check(id_, answer)
                return

    def teardown(self) -> None:
        for player in (*self._indexers, *self._publishers, *self._readers.values()):
            self._world.run(player.die())
        self._world.run(self._world.settle_all())

    def _check(self, id_: str, answer: Answer) -> None:
        counted, as_of_ms = answer.counts[0], answer.freshness.as_of_ms or 0
        due = sum(hits for accepted_ms, hits in self._accepted[id_] if accepted_ms < as_of_ms)
        most = sum(hits for _, hits in self._accepted[id_])
        assert due <= counted <= most, f"{counted} counted, {due} accepted before the as-of {as_of_ms}, {most} in all"

    def _reader_of(self, id_: str) -> Callable[[Gate], Callable[[], Coroutine[Any, Any, Answer]]]:
        return lambda gate: self._world.build_read(gate, self._name_of(id_))

    def _name_of(self, id_: str) -> str:
        return f"{self._name}/{id_}"


@pytest.fixture
def world(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer) -> Iterator[World]:
    world = World(redis_server.url, elasticsearch_server.url)
    with world.runner:
        world.run(world.open())
        yield world
        world.run(world.close())


@pytest.mark.timeout(600)
def test_no_hit_accepted_before_the_as_of_of_an_answer_is_missing_from_it(world: World) -> None:
    run_state_machine_as_test(
        lambda: Interleaving(world),  # type: ignore[arg-type]  # anything that makes a machine will do
        # Not shrunk: the stores' timing is part of what happens, and the story told is long enough as it is.
        settings=settings(max_examples=30, stateful_step_count=40, deadline=None, phases=[Phase.generate]),
    )


@pytest.mark.parametrize("calls_before", range(_CALLS_OF_A_PUBLICATION + 1))
def test_hits_that_are_settled_at_any_moment_of_a_publication_do_not_make_it_false(
    world: World, calls_before: int
) -> None:
    machine = Interleaving(world)
    for _ in range(2):
        if calls_before:
            machine.publish(0, calls=calls_before)
        machine.hit("a", 1)
        time.sleep(0.002)  # so that the as-of can be later than the hit
        machine.index_all()
        for _ in range(2 * _CALLS_OF_A_PUBLICATION):
            machine.publish(0, calls=1)
            machine.a_read_without_a_break_is_true()
    machine.teardown()


def test_read_that_learns_of_the_as_of_late_promises_no_hit_that_came_after_it_began(world: World) -> None:
    machine = Interleaving(world)
    machine.read("a", calls=1)
    time.sleep(0.002)  # the clock has to move on from the end of the windows
    machine.hit("a", 1)
    machine.index(0, calls=6)
    machine.publish(0, calls=4)
    time.sleep(0.002)
    machine.publish(0, calls=4)
    machine.read("a", calls=3)
    machine.teardown()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
