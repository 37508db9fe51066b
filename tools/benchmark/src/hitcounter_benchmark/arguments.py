"""Parses the command line into a plan, or reports what is wrong with it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from hitcounter_benchmark.mix import Skew, name_ids
from hitcounter_benchmark.plan import DEFAULT_SECONDS, DEFAULT_WORKERS, OPEN_LOOP_WORKERS, Plan
from hitcounter_benchmark.schedule import PROFILES, SPIKE_FACTOR
from hitcounter_benchmark.settings import BenchmarkSettings
from hitcounter_benchmark.target import parse_target

_MAX_IDS: Final = 1_000_000
_MAX_BATCH: Final = 10_000
"""What the API takes in one batch."""
_MAX_WORKERS: Final = 10_000
_MAX_RATE: Final = 1_000_000
_EPILOG: Final = """
Exit status: 0 when the counts equal what was acknowledged, 1 when they do not or could not be shown to, 2 for a wrong
argument. `hitcounter-benchmark suite --help` tells about the comparison of all parts.
"""


@dataclass(frozen=True, slots=True)
class Arguments:
    """A plan, and where to write its result."""

    plan: Plan
    json_path: Path | None


def parse_arguments(argv: Sequence[str], settings: BenchmarkSettings) -> Arguments:
    """Read the command line; exits with status 2 and a sentence if it makes no sense."""
    parser = _build_parser()
    options = parser.parse_args(argv)
    try:
        plan = _build_plan(options, settings)
    except ValueError as error:
        parser.error(str(error))
    return Arguments(plan, options.json)


def _build_plan(options: argparse.Namespace, settings: BenchmarkSettings) -> Plan:
    default_workers = DEFAULT_WORKERS if options.rate is None else OPEN_LOOP_WORKERS
    if options.rate is None and options.profile != "steady":
        raise ValueError("--profile shapes an open loop: give its --rate too")
    if options.rate is not None and options.max_backlog is not None:
        raise ValueError("--max-backlog holds a closed loop back; an open loop keeps to its --rate")
    return Plan(
        target=parse_target(options.url),
        ids=name_ids(options.id or settings.id, options.ids),
        workers=options.workers or settings.workers or default_workers,
        skew=options.skew,
        batch=options.batch,
        seconds=options.seconds,
        requests=options.requests,
        rate=options.rate,
        profile=options.profile,
        max_backlog=options.max_backlog,
        read_id=options.read_id,
        read_rate=options.read_rate,
        timeout_seconds=options.timeout_seconds,
        settle_seconds=options.settle_seconds,
        probe_every_seconds=options.probe_every_ms / 1000,
        is_verified=options.verify,
        seed=options.seed,
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-benchmark",
        description="Send hits to an API on this machine, then read the counts and check that they are right.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8001", help="the API, on this machine only (%(default)s)")
    workers = f"connections (default {DEFAULT_WORKERS}; {OPEN_LOOP_WORKERS} with --rate)"
    add("-w", "--workers", type=parse_whole(1, _MAX_WORKERS), help=f"{workers}; or HITCOUNTER_BENCHMARK__WORKERS")
    add("-i", "--id", help="the id of the hits (default 1); or HITCOUNTER_BENCHMARK__ID")
    add(
        "--ids",
        type=parse_whole(1, _MAX_IDS),
        default=1,
        help="spread the hits over this many ids, named ID-0, ID-1, …",
    )
    add("--skew", choices=get_args(Skew), default="uniform", help="how ids are drawn (%(default)s)")
    add("--batch", type=parse_whole(1, _MAX_BATCH), help="send this many hits in one request, to /analytics/batch")
    add("--seconds", type=parse_number(0.01, 86_400), help=f"how long to send (default {DEFAULT_SECONDS:g})")
    add("--requests", type=parse_whole(1, 1_000_000_000), help="maximum number of requests to send")
    add("--rate", type=parse_number(0.1, _MAX_RATE), help="open loop: hits per second, however slow the responses are")
    shape = f"shape of the rate; a spike is {SPIKE_FACTOR} times the rate in the middle fifth (%(default)s)"
    add("--profile", choices=PROFILES, default="steady", help=shape)
    held = "pause while more hits than this are queued, to measure the rate of the whole path"
    add("--max-backlog", type=parse_whole(0, 1_000_000_000), metavar="HITS", help=held)
    add(
        "--read-rate",
        type=parse_number(0, 1000),
        default=0.0,
        help="reads of counts per second during the load (default 0)",
    )
    add("--read-id", metavar="ID", help="the id of these reads (default: the first id of the load)")
    add(
        "--timeout-seconds",
        type=parse_number(0.01, 600),
        default=5.0,
        help="time limit for a response (%(default)s)",
    )
    add(
        "--settle-seconds",
        type=parse_number(0, 86_400),
        default=60.0,
        help="how long to wait for the counts (%(default)s)",
    )
    add(
        "--probe-every-ms",
        type=parse_number(0, 60_000),
        default=250,
        help="interval of freshness probes; 0: none (%(default)s)",
    )
    add("--no-verify", dest="verify", action="store_false", help="do not read: no freshness, no verdict")
    add("--seed", type=int, default=1, help="seed of the order of ids (%(default)s)")
    add("--json", type=parse_new_file, metavar="FILE", help="write machine, versions, settings and results to FILE")
    return parser


def parse_new_file(text: str) -> Path:
    """Parse the path of a file to be written, for argparse: found wrong now rather than when all is measured."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a file: is its folder there?")
    return path


def parse_whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds, for argparse."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low:,} to {high:,}")
        return int(text)

    return parse


def parse_number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers within bounds, for argparse."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:,.0f}")
        return number

    return parse
