"""One measurement: reads the counts before, sends the load, reads the counts after, and gives a verdict."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from hitcounter_benchmark.backlog import BacklogWatch, Flow, Sample, measure_flow
from hitcounter_benchmark.client import Client, ClientError
from hitcounter_benchmark.freshness import Freshness
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.load import Load
from hitcounter_benchmark.machine import read_busy_seconds
from hitcounter_benchmark.mix import build_mix
from hitcounter_benchmark.plan import Plan
from hitcounter_benchmark.processes import Usage, read_cpu_seconds, read_usage
from hitcounter_benchmark.progress import say, showing
from hitcounter_benchmark.read_load import ReadLoad
from hitcounter_benchmark.reading import NotSettledError, now, read_settled, wait_until_drained
from hitcounter_benchmark.verdict import Verdict, judge, not_verified

_READERS: Final = 16
"""Connections for reading counts back: enough to keep Elasticsearch busy, few enough to leave it alone."""
_PROBE_CONNECTIONS: Final = 2
_READ_LOAD_CONNECTIONS: Final = 8
"""More than this many reads of one id at once would only wait for each other in Elasticsearch."""


class BenchmarkError(Exception):
    """The measurement could not be made; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run showed."""

    plan: Plan
    seconds: float
    """From the first send to the last answer."""
    acknowledged_hits: int
    unknown_hits: int
    errors: Mapping[str, int]
    latency: Histogram
    client_stalls: Histogram
    client_cpu_share: float
    """Of one core, during the load: near 1, the client is what was measured."""
    neighbours_cores: float | None
    """How many of our cores were busy during the load with what is neither ours nor watched; None if none is."""
    drain_seconds: float | None
    """From the end of the load until the backlog was 0; None when that was not looked at or did not happen."""
    freshness: Freshness | None
    verdict: Verdict | None
    usage: Mapping[str, Usage]
    """Of the watched processes, from the start of the load until the backlog was 0."""
    samples: Sequence[Sample] = ()
    """Of the ledger during the load, where that was looked at."""
    reads: Histogram | None = None
    """How long the reads beside the load took."""
    documents: int | None = None
    """What Elasticsearch stored for the hits of this run, where it was asked."""

    @property
    def accepted_per_second(self) -> float:
        """Acknowledged hits per second of the load."""
        return self.acknowledged_hits / self.seconds if self.seconds else 0.0

    @property
    def countable_per_second(self) -> float | None:
        """Acknowledged hits per second until the last of them had left the queue."""
        if self.drain_seconds is None or not self.seconds:
            return None
        return self.acknowledged_hits / (self.seconds + self.drain_seconds)

    @property
    def flow(self) -> Flow | None:
        """What went in and out of the queue once the load was under way; None where that was not looked at."""
        return measure_flow(self.samples)

    @property
    def is_right(self) -> bool:
        """Whether everything that was to be shown was shown."""
        return (self.verdict is None or self.verdict.is_right) and not (self.freshness and self.freshness.missing)


async def run_benchmark(
    plan: Plan, pids: Mapping[str, int] | None = None, *, stops_on_interrupt: bool = True
) -> Result:
    """Carry out the plan.

    Args:
        plan: What to do.
        pids: Processes of this machine to watch meanwhile, by name.
        stops_on_interrupt: Whether a first SIGINT only ends the load, so that what was sent is still verified.

    Raises:
        BenchmarkError: Nothing answers there, or the counts cannot be read before the load.
    """
    mix = build_mix(plan.target, plan.ids, skew=plan.skew, batch=plan.batch, seed=plan.seed)
    load = Load(plan.target, mix, plan.build_pace(), workers=plan.workers, timeout_seconds=plan.timeout_seconds)
    async with (
        Client(plan.target, _READERS) as client,
        Client(plan.target, _PROBE_CONNECTIONS) as probe_client,
        Client(plan.target, _READ_LOAD_CONNECTIONS) as read_client,
    ):
        await _require_answer(client)
        before = await _read_before(client, plan)
        watch = BacklogWatch(client, load, limit=plan.max_backlog)
        async with _probing(probe_client, plan) as freshness:
            cpu_before = read_cpu_seconds(pids or {})
            async with _watching(watch, plan), _reading(read_client, plan) as reads:
                with _ending_on_interrupt(load) if stops_on_interrupt else contextlib.nullcontext():
                    cpu_share, neighbours_cores = await _run_load(load, pids or {})
            ended = now()
            if freshness:
                freshness.stop()
            drain_seconds = await _drain(client, plan)
            usage = read_usage(pids or {}, since=cpu_before)
            verdict = await _verify(client, plan, load, before, ended) if plan.is_verified else None
    return Result(
        plan=plan,
        seconds=load.elapsed_ns / 1e9,
        acknowledged_hits=load.tally.acknowledged_hits,
        unknown_hits=load.tally.unknown_hits,
        errors={**load.tally.errors, **(reads.errors if reads else {})},
        latency=load.latency,
        client_stalls=load.stalls,
        client_cpu_share=cpu_share,
        neighbours_cores=neighbours_cores,
        drain_seconds=drain_seconds,
        freshness=freshness,
        verdict=verdict,
        usage=usage,
        samples=watch.samples,
        reads=reads.latency if reads else None,
    )


async def _require_answer(client: Client) -> None:
    """Make sure that somebody is there at all: any answer will do, a bare endpoint knows only one."""
    try:
        await client.ask(client.target.get("/status"))
    except ClientError as error:
        raise BenchmarkError(f"nothing answers at {client.target.url}: {error}") from error


async def _read_before(client: Client, plan: Plan) -> dict[str, int]:
    """Read what each id had already, once all that was accepted before us is countable."""
    if not plan.is_verified:
        return {}
    say(f"reading the counts of {len(plan.ids):,} ids before the load")
    try:
        return await read_settled(client, plan.ids, since=now(), settle_seconds=plan.settle_seconds)
    except NotSettledError as error:
        raise BenchmarkError(f"{error}; without counts to read, use --no-verify") from error


@contextlib.asynccontextmanager
async def _probing(client: Client, plan: Plan) -> AsyncIterator[Freshness | None]:
    """Probe the freshness inside the block, and wait for the last probes at its end."""
    if not plan.is_verified or not plan.probe_every_seconds:
        yield None
        return
    # A new id prefix each time: a probe's id must never have been counted before.
    freshness = Freshness(client, id_prefix=f"freshness-{uuid4().hex}", every_seconds=plan.probe_every_seconds)
    probing = asyncio.create_task(freshness.run(plan.settle_seconds))
    try:
        yield freshness
        await probing
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


def _watching(watch: BacklogWatch, plan: Plan) -> contextlib.AbstractAsyncContextManager[None]:
    return watch.watching() if plan.is_watched else contextlib.nullcontext()


@contextlib.asynccontextmanager
async def _reading(client: Client, plan: Plan) -> AsyncIterator[ReadLoad | None]:
    """Read inside the block, if the plan wants it."""
    if not plan.read_rate:
        yield None
        return
    reads = ReadLoad(client, plan.read_id or plan.ids[0], per_second=plan.read_rate)
    async with reads.reading():
        yield reads


async def _run_load(load: Load, pids: Mapping[str, int]) -> tuple[float, float | None]:
    """Run the load, and return the cores that the client took meanwhile, and those that our neighbours took."""
    started, client_before = time.perf_counter(), time.process_time()
    busy_before = _read_others_seconds(pids) if pids else 0.0
    with showing(load):
        await load.run()
    seconds, client = time.perf_counter() - started, time.process_time() - client_before
    others = _read_others_seconds(pids) - busy_before - client if pids else None
    return client / seconds, None if others is None else others / seconds


def _read_others_seconds(pids: Mapping[str, int]) -> float:
    """Return the CPU seconds of all processes that are not measured, including this one."""
    return read_busy_seconds() - sum(read_cpu_seconds(pids).values())


@contextlib.contextmanager
def _ending_on_interrupt(load: Load) -> Iterator[None]:
    """Let the first SIGINT inside the block end the load; the next one is a KeyboardInterrupt again."""
    loop = asyncio.get_running_loop()

    def end_load() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        load.stop()

    loop.add_signal_handler(signal.SIGINT, end_load)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _drain(client: Client, plan: Plan) -> float | None:
    """Wait until the queue is empty; returns the seconds that took, or None if it was not to be, or not waited for."""
    started = time.monotonic()
    if plan.is_watched and await wait_until_drained(client, plan.settle_seconds):
        return time.monotonic() - started
    return None


async def _verify(client: Client, plan: Plan, load: Load, before: Mapping[str, int], ended: datetime) -> Verdict:
    """Wait until everything accepted before the load's end is countable, then judge."""
    say(f"reading the counts of {len(plan.ids):,} ids back")
    remaining_seconds = max(plan.settle_seconds - (now() - ended).total_seconds(), 0.0)
    try:
        after = await read_settled(client, plan.ids, since=ended, settle_seconds=remaining_seconds)
    except NotSettledError as error:
        return not_verified(f"{error} ({plan.settle_seconds:g} s were allowed)")
    return judge(load.tally.by_id(), before, after)
