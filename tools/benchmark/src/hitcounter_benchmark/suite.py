"""Measures all benchmarks in one run: what each step of the path of a hit costs compared with the bare endpoint.

Rounds are interleaved (bare, track, path, … and again), so that other load on the machine affects all of them. Before
the first round an id gets millions of stored hits. This also warms up Elasticsearch, whose JVM compiles while it
writes: the first 300,000 documents take six times the CPU time of later ones. A short round warms up the rest; its
results are discarded.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson
import uvloop
from hitcounter_devstack import ELASTICSEARCH_8, ELASTICSEARCH_9, DevstackError

from hitcounter_benchmark.arguments import parse_new_file, parse_number, parse_whole
from hitcounter_benchmark.benchmark import BenchmarkError, Result, run_benchmark
from hitcounter_benchmark.comparison import BARE, BATCHES, ONE_ID, OPEN_LOOP, PATH, TRACK, Round, compare, name_reads
from hitcounter_benchmark.documents import count_documents, wait_until_merged
from hitcounter_benchmark.machine import count_cores, read_load_average, use_cores
from hitcounter_benchmark.mix import name_ids
from hitcounter_benchmark.parts import Installation, Parts, running_parts
from hitcounter_benchmark.plan import Plan
from hitcounter_benchmark.progress import say
from hitcounter_benchmark.report import build_context
from hitcounter_benchmark.stored import store_hits
from hitcounter_benchmark.suite_report import build_suite_record, render_suite

RELEASES: Final = {"8": ELASTICSEARCH_8, "9": ELASTICSEARCH_9}
_WORKERS: Final = 128
"""Connections. As many as it takes to keep two cores busy with the whole path: with 64 they idle for a tenth."""
_BATCH: Final = 1000
_BATCH_WORKERS: Final = 8
"""Each with a request of 1,000 hits under way: more only makes the API refuse."""
_MAX_BACKLOG: Final = 20_000
"""Of the loads that go at the whole path's rate: several bulks, so that the indexer never waits, and half a second."""
_BUSY_SHARE: Final = 0.25
"""A load average above this share of the cores disturbs what we measure."""
_OPEN_LOOP_RATE: Final = 10_000
"""The mission's floor, in hits a second."""
_WRITE_RATE: Final = 5_000
"""Hits a second beside the reads."""
_COLD_READ_RATE: Final = 50.0
"""The mission's: one read for a hundred writes."""
_HOT_READ_RATE: Final = 5.0
"""A tenth of the reads for one id: it alone costs as much as a hundred cold ones."""
_SETTINGS: Final = ("seconds", "sustained_seconds", "open_seconds", "ids", "stored_hits", "cores")
"""The options that belong into a record."""
_COLD_ID: Final = "suite-cold"
_COLD_HITS: Final = 3
_HOT_ID: Final = "suite-stored"


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the loads of a round last, in seconds."""

    short: float
    """Of those that need not be long to be true."""
    sustained: float
    """Of those at the whole path's own rate, and of the reads."""
    open: float
    """Of the open loop."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing to measure in each round, and where."""

    name: str
    plan: Plan
    on: Installation


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of what the loads meet."""

    ids: int
    """That take hits, in each load with many."""
    stored_hits: int
    """Of the one id that has many."""


def build_round(parts: Parts, number: int, durations: Durations, sizes: Sizes) -> Iterator[Measurement]:
    """Yield what one round measures, in order; its ids are its own, so that no count depends on another round."""

    def ids(name: str, how_many: int = sizes.ids) -> list[str]:
        return name_ids(f"suite-{number}-{name}", how_many)

    def spam(on: Installation, name: str) -> Plan:
        return Plan(
            target=on.target,
            ids=ids(name),
            workers=_WORKERS,
            seconds=durations.short,
            is_verified=on.elasticsearch_url is not None,
            probe_every_seconds=0,
        )

    def sustained(name: str, how_many: int = sizes.ids, workers: int = _WORKERS, batch: int | None = None) -> Plan:
        return Plan(
            target=parts.path.target,
            ids=ids(name, how_many),
            workers=workers,
            batch=batch,
            seconds=durations.sustained,
            max_backlog=_MAX_BACKLOG,
        )

    def visitors(name: str, rate: float, seconds: float) -> Plan:
        return Plan(target=parts.path.target, ids=ids(name), workers=_WORKERS, rate=rate, seconds=seconds)

    def reads(name: str, hit_id: str, read_rate: float) -> Plan:
        plan = visitors(name, _WRITE_RATE, durations.sustained)
        return replace(plan, read_id=hit_id, read_rate=read_rate, probe_every_seconds=0)

    path = parts.path
    yield Measurement(BARE, spam(parts.bare, "bare"), parts.bare)
    yield Measurement(TRACK, spam(parts.track, "track"), parts.track)
    yield Measurement("whole path, not held", spam(path, "path"), path)
    yield Measurement(PATH, sustained("sustained"), path)
    yield Measurement(ONE_ID, sustained("hot", 1), path)
    yield Measurement(BATCHES, sustained("batch", workers=_BATCH_WORKERS, batch=_BATCH), path)
    yield Measurement(OPEN_LOOP, visitors("open", _OPEN_LOOP_RATE, durations.open), path)
    yield Measurement(name_reads(_COLD_HITS), reads("cold", _COLD_ID, _COLD_READ_RATE), path)
    yield Measurement(name_reads(sizes.stored_hits), reads("stored", _HOT_ID, _HOT_READ_RATE), path)
    yield Measurement("client's ceiling", spam(parts.ceiling, "ceiling"), parts.ceiling)


def run_suite(argv: Sequence[str]) -> int:
    """Run the suite and return the exit status: 1 when any count was wrong, or a part is missing."""
    options = _build_parser().parse_args(argv)
    if options.cores:
        use_cores(options.cores)
    context = build_context()  # before we load the machine ourselves
    _warn_of_neighbours()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="hitcounter-bench-", ignore_cleanup_errors=True) as folder,
            running_parts(Path(folder), RELEASES[options.elasticsearch]) as parts,
        ):
            rounds = _run_rounds(parts, options)
            versions = dict(parts.versions)
    except DevstackError as error:
        raise BenchmarkError(str(error)) from error
    lines = compare(rounds)
    print(render_suite(lines, rounds))
    settings = {name: getattr(options, name) for name in _SETTINGS}
    if options.json is not None:
        record = {**context, "stores": versions, "settings": settings, **build_suite_record(lines, rounds)}
        options.json.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    return 0 if all(result.is_right for results in rounds for result in results.values()) else 1


def _warn_of_neighbours() -> None:
    """Say so if this machine has other things to do."""
    cores, load_average = count_cores(), read_load_average()
    if load_average > _BUSY_SHARE * cores:
        say(f"this machine is busy (load average {load_average} on {cores} cores): trust the CPU, not the rates")


def _run_rounds(parts: Parts, options: argparse.Namespace) -> list[Round]:
    uvloop.run(store_hits(parts.path.target, [_HOT_ID], options.stored_hits))
    uvloop.run(store_hits(parts.path.target, [_COLD_ID], _COLD_HITS))
    assert parts.path.elasticsearch_url is not None  # noqa: S101 -- the whole path has one
    wait_until_merged(parts.path.elasticsearch_url)

    def run(number: int, durations: Durations, title: str) -> Round:
        return _run_round(build_round(parts, number, durations, Sizes(options.ids, options.stored_hits)), title)

    if options.warm_up_seconds:
        run(0, Durations(*[options.warm_up_seconds] * 3), "warming up")
    durations = Durations(options.seconds, options.sustained_seconds, options.open_seconds)
    return [run(number, durations, f"round {number} of {options.rounds}") for number in range(1, options.rounds + 1)]


def _run_round(measurements: Iterator[Measurement], title: str) -> Round:
    results: dict[str, Result] = {}
    for measurement in measurements:
        say(f"{title}: {measurement.name} (load average {read_load_average()})")
        results[measurement.name] = _measure(measurement)
    return results


def _measure(measurement: Measurement) -> Result:
    """Run one measurement; where hits are stored, see how many documents became of them."""
    url = measurement.on.elasticsearch_url
    before = None if url is None else count_documents(url)
    result = uvloop.run(run_benchmark(measurement.plan, measurement.on.pids, stops_on_interrupt=False))
    return result if url is None or before is None else replace(result, documents=count_documents(url) - before)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-benchmark suite",
        description="Start all services on this machine, and measure each step of the path of a hit.",
    )
    add = parser.add_argument
    seconds = parse_number(0, 600)
    add("--rounds", type=parse_whole(1, 100), default=3, help="number of rounds after the warm-up (%(default)s)")
    add("--seconds", type=seconds, default=5.0, help="duration of each short load (%(default)s)")
    add("--sustained-seconds", type=seconds, default=15.0, help="duration of sustained loads and reads (%(default)s)")
    add("--open-seconds", type=seconds, default=60.0, help="duration of the open loop (%(default)s)")
    add("--warm-up-seconds", type=seconds, default=3.0, help="duration of each warm-up; 0: none (%(default)s)")
    add("--ids", type=parse_whole(2, 1_000_000), default=1000, help="number of ids in a load (%(default)s)")
    stored = "stored hits of the id whose reads are measured (%(default)s)"
    add("--stored-hits", type=parse_whole(1, 100_000_000), default=5_000_000, help=stored)
    add("--elasticsearch", choices=RELEASES, default="8", help="major version; 9 needs Java 21 (%(default)s)")
    add("--cores", type=parse_whole(1, 1024), help="run everything, including this client, on this many cores (all)")
    add("--json", type=parse_new_file, metavar="FILE", help="write the machine, the versions and all results to FILE")
    return parser
