"""How cost grows: with the number of indexers, with what is stored, with the number of ids, with the backlog.

Three experiments, each on installations of its own, each bounded in hits:

* *indexers*: how fast a backlog drains with 1, 2, 4 of them, each held to a share of a core.
* *stored*: what reads and writes cost with more and more stored hits, all of one id, or of many.
* *backlog*: how fast a backlog drains, and what Track's callers notice of it, while nobody indexes and while it drains.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import uvloop
from hitcounter_devstack import DevstackError

from hitcounter_benchmark.arguments import parse_number
from hitcounter_benchmark.backlog import Sample
from hitcounter_benchmark.benchmark import BenchmarkError, Result, run_benchmark
from hitcounter_benchmark.client import Client
from hitcounter_benchmark.documents import count_documents, read_disk_bytes, wait_until_merged
from hitcounter_benchmark.growth_report import BacklogRow, Growth, IndexersRow, StoredRow, render_growth
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.history import add_record_options, write_record
from hitcounter_benchmark.laboratory import Bench, Laboratory, measure_drain, running_laboratory, watch_drain
from hitcounter_benchmark.machine import read_load_average, use_cores
from hitcounter_benchmark.mix import name_ids
from hitcounter_benchmark.plan import Plan
from hitcounter_benchmark.processes import read_cpu_seconds, read_memory_mb
from hitcounter_benchmark.progress import say
from hitcounter_benchmark.reading import now, read_settled
from hitcounter_benchmark.report import build_context
from hitcounter_benchmark.stored import queue_hits, store_hits
from hitcounter_benchmark.suite import RELEASES, add_machine_options, warn_of_neighbours
from hitcounter_benchmark.target import Target, counts_path
from hitcounter_benchmark.throttle import throttled

_WORKERS: Final = 64
_MAX_BACKLOG: Final = 20_000
_TRACK_RATE: Final = 5_000
"""Hits a second while a backlog stands or drains: what Track's callers notice is asked, not what they can do."""
_READS: Final = 50
_SETTLE_SECONDS: Final = 120.0
_COLD_ID: Final = "cold"
_COLD_HITS: Final = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """How far the experiments go."""

    indexers: Sequence[int]
    drained: int
    """Hits that the throttled indexers share."""
    ids: Sequence[int]
    stored: Sequence[int]
    backlogs: Sequence[int]
    write_seconds: float
    track_seconds: float
    warm_up_hits: int


FULL: Final = Sizes(
    indexers=(1, 2, 4),
    drained=500_000,
    ids=(1, 100_000),
    stored=(10_000, 100_000, 1_000_000, 10_000_000),
    backlogs=(0, 1_000_000, 5_000_000),
    write_seconds=12.0,
    track_seconds=10.0,
    warm_up_hits=3_000_000,
)
QUICK: Final = Sizes(
    indexers=(1, 2),
    drained=40_000,
    ids=(1, 1_000),
    stored=(20_000,),
    backlogs=(0, 100_000),
    write_seconds=4.0,
    track_seconds=2.0,
    warm_up_hits=0,
)


def run_growth(argv: Sequence[str]) -> int:
    """Run the experiments and return the exit status."""
    options = _build_parser().parse_args(argv)
    if options.cores:
        use_cores(options.cores)
    context = build_context()  # before we load the machine ourselves
    warn_of_neighbours()
    sizes = QUICK if options.quick else FULL
    try:
        with (
            tempfile.TemporaryDirectory(prefix="hitcounter-bench-", ignore_cleanup_errors=True) as folder,
            running_laboratory(Path(folder), RELEASES[options.elasticsearch]) as laboratory,
        ):
            growth = measure_growth(laboratory, sizes, options.share)
            versions = laboratory.versions
    except DevstackError as error:
        raise BenchmarkError(str(error)) from error
    print(render_growth(growth))
    settings = {"share": options.share, "cores": options.cores, "quick": options.quick}
    write_record("growth", {**context, "stores": versions, "settings": settings, **asdict(growth)}, options)
    return 0


def measure_growth(laboratory: Laboratory, sizes: Sizes, share: float) -> Growth:
    """Run all experiments, one after the other."""
    _warm_up(laboratory, sizes.warm_up_hits)
    return Growth(
        indexers=list(_grow_indexers(laboratory, sizes, share)),
        stored=[
            _measure_stored(laboratory, sizes, name_ids("id", number), hits)
            for number in sizes.ids
            for hits in sizes.stored
        ],
        backlog=[_measure_backlog(laboratory, sizes, hits) for hits in sizes.backlogs],
    )


def _warm_up(laboratory: Laboratory, hits: int) -> None:
    """Let Elasticsearch's Java compile what it will need: its first documents cost several times the usual."""
    if hits:
        with laboratory.installation("warm") as bench, bench.indexers(1):
            uvloop.run(store_hits(bench.target, name_ids("warm", 1000), hits))


# ── indexers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _grow_indexers(laboratory: Laboratory, sizes: Sizes, share: float) -> Iterator[IndexersRow]:
    for number in sizes.indexers:
        say(f"{number} indexers, each with {share:g} of a core (load average {read_load_average()})")
        with laboratory.installation(f"indexers-{number}") as bench, bench.indexers(number) as pids:
            yield _drain_throttled(bench, pids, sizes.drained, share)


def _drain_throttled(bench: Bench, pids: Sequence[int], hits: int, share: float) -> IndexersRow:
    with throttled(pids, share):
        uvloop.run(queue_hits(bench.target, name_ids("id", 100_000), hits))
        named = bench.name_pids(*pids)
        before = read_cpu_seconds(named)
        samples = uvloop.run(watch_drain(bench.target))
        after = read_cpu_seconds(named)
    seconds = samples[-1].seconds
    cores = {name: (after[name] - before[name]) / seconds for name in named}
    return IndexersRow(
        indexers=len(pids),
        share=share,
        used_share=sum(cores[name] for name in named if name.startswith("indexer")) / len(pids),
        elasticsearch_cores=cores["elasticsearch"],
        settled_per_second=measure_drain(samples),
    )


# ── stored hits ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _measure_stored(laboratory: Laboratory, sizes: Sizes, ids: Sequence[str], stored: int) -> StoredRow:
    """Store hits, then measure reads, then writes: these come last since they add to what is stored."""
    with laboratory.installation(f"stored-{len(ids)}-{stored}") as bench, bench.indexers(1) as pids:
        uvloop.run(store_hits(bench.target, ids, stored))
        uvloop.run(store_hits(bench.target, [_COLD_ID], _COLD_HITS))
        hits_of_read_id = uvloop.run(_count_hits(bench.target, ids[0]))
        url, prefix = bench.stores.elasticsearch_url, bench.stores.index_prefix
        wait_until_merged(url)
        documents, disk_bytes = count_documents(url, prefix), read_disk_bytes(url, prefix)
        say(f"reads, then writes (load average {read_load_average()})")
        cold, stocked = (uvloop.run(_time_reads(bench.target, hit_id)) for hit_id in (_COLD_ID, ids[0]))
        written = _write(bench, pids, ids, sizes.write_seconds)
    return StoredRow(
        ids=len(ids),
        hits=stored,
        documents=documents,
        disk_bytes_per_document=disk_bytes / documents,
        hits_of_read_id=hits_of_read_id,
        cold_p50_ms=cold.percentile_ns(50) / 1e6,
        cold_p90_ms=cold.percentile_ns(90) / 1e6,
        read_p50_ms=stocked.percentile_ns(50) / 1e6,
        read_p90_ms=stocked.percentile_ns(90) / 1e6,
        written_per_second=written.flow.settled_per_second if written.flow else 0.0,
        elasticsearch_cpu_us=1e6 * written.usage["elasticsearch"].cpu_seconds / max(written.acknowledged_hits, 1),
    )


def _write(bench: Bench, pids: Sequence[int], ids: Sequence[str], seconds: float) -> Result:
    plan = Plan(
        target=bench.target, ids=ids, workers=_WORKERS, seconds=seconds, max_backlog=_MAX_BACKLOG, is_verified=False
    )
    return uvloop.run(run_benchmark(plan, bench.name_pids(*pids), stops_on_interrupt=False))


async def _count_hits(target: Target, hit_id: str) -> int:
    """Return the hits of an id once everything accepted is countable."""
    async with Client(target, 1) as client:
        return (await read_settled(client, [hit_id], since=now(), settle_seconds=_SETTLE_SECONDS))[hit_id]


async def _time_reads(target: Target, hit_id: str) -> Histogram:
    """Read an id again and again, one read after the other."""
    durations = Histogram()
    async with Client(target, 1) as client:
        for _ in range(_READS):
            started_ns = perf_counter_ns()
            answer = await client.ask(target.get(counts_path(hit_id)))
            durations.record(perf_counter_ns() - started_ns)
            if answer.status != 200:
                raise BenchmarkError(f"a read was answered with {answer.status}")
    return durations


# ── backlog ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _measure_backlog(laboratory: Laboratory, sizes: Sizes, hits: int) -> BacklogRow:
    with laboratory.installation(f"backlog-{hits}") as bench:
        with bench.indexers(1):
            pass  # it made the group and the indices; nobody indexes what comes now
        before_mb = read_memory_mb(bench.redis_pid)
        uvloop.run(queue_hits(bench.target, name_ids("id", 100_000), hits))
        redis_mb = read_memory_mb(bench.redis_pid) - before_mb
        say(f"a backlog of {hits:,} hits stands (load average {read_load_average()})")
        standing = uvloop.run(_visit(bench, sizes.track_seconds))
        with bench.indexers(1):
            draining, samples = uvloop.run(_visit_and_drain(bench, sizes.track_seconds))
    return BacklogRow(
        hits=hits,
        redis_mb=redis_mb,
        standing_p50_ms=standing.latency.percentile_ns(50) / 1e6,
        standing_p99_ms=standing.latency.percentile_ns(99) / 1e6,
        draining_p50_ms=draining.latency.percentile_ns(50) / 1e6,
        draining_p99_ms=draining.latency.percentile_ns(99) / 1e6,
        errors=sum(standing.errors.values()) + sum(draining.errors.values()),
        drained_per_second=measure_drain(samples) if hits else None,
    )


async def _visit_and_drain(bench: Bench, seconds: float) -> tuple[Result, list[Sample]]:
    return await asyncio.gather(_visit(bench, seconds), watch_drain(bench.target))


async def _visit(bench: Bench, seconds: float) -> Result:
    """Send hits as visitors do, and read nothing: what is accepted now is countable only when the backlog is gone."""
    plan = Plan(
        target=bench.target,
        ids=name_ids("visited", 1000),
        workers=_WORKERS,
        rate=_TRACK_RATE,
        seconds=seconds,
        is_verified=False,
    )
    return await run_benchmark(plan, stops_on_interrupt=False)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-benchmark growth",
        description="Show how cost grows with indexers, stored hits, ids and backlog; a quarter of an hour.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small numbers, two minutes: shows that it works, and little else")
    share = "of a core that each indexer gets in the experiment with several (%(default)s)"
    add("--share", type=parse_number(0.01, 1), default=0.1, help=share)
    add_machine_options(add)
    add_record_options(add)
    return parser
