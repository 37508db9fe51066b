"""All parts side by side in one run: what each step of a hit's path costs beyond the bare endpoint.

Rounds are interleaved (bare, track, path, … and again), so that whatever else the machine does meets all of them. A
first round warms up processes, caches and the Java machine, and is forgotten.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import uvloop
from hitcounter_devstack import ELASTICSEARCH_8, ELASTICSEARCH_9, DevstackError

from hitcounter_benchmark.arguments import parse_new_file, parse_number, parse_whole
from hitcounter_benchmark.benchmark import BenchmarkError, Result, run_benchmark
from hitcounter_benchmark.comparison import BARE, Round, compare
from hitcounter_benchmark.machine import count_cores, read_load_average
from hitcounter_benchmark.mix import name_ids
from hitcounter_benchmark.parts import Installation, Parts, running_parts
from hitcounter_benchmark.plan import Plan
from hitcounter_benchmark.progress import say
from hitcounter_benchmark.report import build_context
from hitcounter_benchmark.suite_report import build_suite_record, render_suite

_RELEASES: Final = {"8": ELASTICSEARCH_8, "9": ELASTICSEARCH_9}
_WORKERS: Final = 64
_IDS: Final = 1000
_BATCH: Final = 1000
_BATCH_WORKERS: Final = 8
"""Each with a request of 1,000 hits under way: more only makes the API refuse."""
_BATCH_REQUESTS_PER_SECOND: Final = 60
"""Bounds the batches by the hits that should be countable in the time: far more are accepted than are written."""
_BUSY_SHARE: Final = 0.25
"""A load average above this share of the cores disturbs what we measure."""
_OPEN_LOOP_RATE: Final = 10_000
"""The mission's floor, in hits a second."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing to measure in each round, and the processes to watch meanwhile."""

    name: str
    plan: Plan
    pids: Mapping[str, int]


def build_round(parts: Parts, number: int, seconds: float) -> Iterator[Measurement]:
    """Yield what one round measures, in order; its ids are its own, so that no count depends on another round."""

    def measure(name: str, on: Installation, plan: Plan) -> Measurement:
        return Measurement(name, plan, on.pids)

    def spam(on: Installation, ids: Sequence[str], *, is_verified: bool) -> Plan:
        return Plan(
            target=on.target,
            ids=ids,
            workers=_WORKERS,
            seconds=seconds,
            is_verified=is_verified,
            probe_every_seconds=0,
        )

    def ids(name: str, how_many: int = _IDS) -> list[str]:
        return name_ids(f"suite-{number}-{name}", how_many)

    batches = Plan(
        target=parts.path.target,
        ids=ids("batch"),
        workers=_BATCH_WORKERS,
        batch=_BATCH,
        requests=int(seconds * _BATCH_REQUESTS_PER_SECOND),
        probe_every_seconds=0,
    )
    visitors = Plan(
        target=parts.path.target,
        ids=ids("open"),
        workers=_WORKERS,
        rate=_OPEN_LOOP_RATE,
        seconds=seconds,
    )
    yield measure(BARE, parts.bare, spam(parts.bare, ids("bare"), is_verified=False))
    yield measure("Track alone", parts.track, spam(parts.track, ids("track"), is_verified=False))
    yield measure("whole path", parts.path, spam(parts.path, ids("path"), is_verified=True))
    yield measure("whole path, 1 id", parts.path, spam(parts.path, ids("hot", 1), is_verified=True))
    yield measure(f"batches of {_BATCH:,}", parts.path, batches)
    yield measure(f"open loop, {_OPEN_LOOP_RATE:,}/s", parts.path, visitors)
    yield measure("client's ceiling", parts.ceiling, spam(parts.ceiling, ids("ceiling"), is_verified=False))


def run_suite(argv: Sequence[str]) -> int:
    """Run the suite and return the exit status: 1 when any count was wrong, or a part is missing."""
    options = _build_parser().parse_args(argv)
    context = build_context()  # before we load the machine ourselves
    _warn_of_neighbours()
    release = _RELEASES[options.elasticsearch]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="hitcounter-bench-", ignore_cleanup_errors=True) as folder,
            running_parts(Path(folder), release) as parts,
        ):
            if options.warm_up_seconds:
                _run_round(parts, 0, options.warm_up_seconds, "warming up")
            rounds = [
                _run_round(parts, number, options.seconds, f"round {number} of {options.rounds}")
                for number in range(1, options.rounds + 1)
            ]
            versions = dict(parts.versions)
    except DevstackError as error:
        raise BenchmarkError(str(error)) from error
    lines = compare(rounds)
    print(render_suite(lines, rounds))
    if options.json is not None:
        record = {**context, "stores": versions, **build_suite_record(lines, rounds)}
        options.json.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
    return 0 if all(result.is_right for results in rounds for result in results.values()) else 1


def _warn_of_neighbours() -> None:
    cores, load_average = count_cores(), read_load_average()
    if load_average > _BUSY_SHARE * cores:
        say(f"this machine is busy (load average {load_average} on {cores} cores): trust the CPU, not the rates")


def _run_round(parts: Parts, number: int, seconds: float, title: str) -> Round:
    results: dict[str, Result] = {}
    for measurement in build_round(parts, number, seconds):
        say(f"{title}: {measurement.name}")
        results[measurement.name] = uvloop.run(
            run_benchmark(measurement.plan, measurement.pids, stops_on_interrupt=False)
        )
    return results


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-benchmark suite",
        description="Start every part on this machine, for real, and measure them side by side.",
    )
    add = parser.add_argument
    add("--rounds", type=parse_whole(1, 100), default=3, help="how many, after a warm-up (%(default)s)")
    add("--seconds", type=parse_number(1, 600), default=5.0, help="for each measurement of a round (%(default)s)")
    add("--warm-up-seconds", type=parse_number(0, 600), default=3.0, help="the same beforehand; 0: none (%(default)s)")
    add("--elasticsearch", choices=_RELEASES, default="8", help="major version; 9 needs Java 21 (%(default)s)")
    add("--json", type=parse_new_file, metavar="FILE", help="write machine, versions, medians and all rounds there")
    return parser
