"""`python -m tests.chaos.memory`: memory stays flat while a backlog grows to what is asked for, and drains again.

One API and one indexer take a steady load: first to warm up, then with Elasticsearch stopped, then with it back. Their
resident memory is looked at all along; it may differ by a tenth from what it was after the warm-up. A short outage is
part of that, since an indexer that has never had a backlog has never had a bulk of full size in its hands: it is the
size of a backlog that memory must not depend on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import uvloop
from hitcounter_benchmark.load import Load
from hitcounter_benchmark.mix import build_mix, name_ids
from hitcounter_benchmark.schedule import OpenLoop, intended_times_ns, steady
from hitcounter_benchmark.target import parse_target
from hitcounter_devstack.services import Service

from tests.support.stack import Api, Stack, own_elasticsearch, own_redis, wait_until

_TOLERANCE: Final = 0.10
_PERIOD_SECONDS: Final = 0.5
_IDS: Final = 1000
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part lasts, in seconds, and how many hits a second arrive."""

    rate: float
    warm_up_seconds: float
    outage_seconds: float
    afterwards_seconds: float

    @property
    def seconds(self) -> float:
        """The whole load."""
        return self.warm_up_seconds + self.outage_seconds + self.afterwards_seconds


@dataclass(slots=True)
class Curve:
    """The resident memory of one process, by the seconds since the load began."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> list[int]:
        """Return the samples of a time."""
        return [size for at, size in self.samples if begin <= at < end]


@dataclass(frozen=True, slots=True)
class Flatness:
    """How a process's memory moved, beside its level after the warm-up. In bytes."""

    level: int
    least: int
    most: int

    @property
    def is_flat(self) -> bool:
        """True within the tolerance."""
        return self.least >= self.level * (1 - _TOLERANCE) and self.most <= self.level * (1 + _TOLERANCE)

    def __str__(self) -> str:
        low, high = (100 * (size / self.level - 1) for size in (self.least, self.most))
        return f"{self.level / _MIB:6.1f} MiB after the warm-up, then {low:+5.1f} % to {high:+5.1f} %"


def find_flatness(curve: Curve, warm_up_seconds: float) -> Flatness:
    """Compare what came after the warm-up with its last third."""
    level = int(median(curve.between(warm_up_seconds * 2 / 3, warm_up_seconds)))
    later = curve.between(warm_up_seconds, float("inf"))
    return Flatness(level, min(later), max(later))


class Watch:
    """Looks at the memory of processes, on a thread of its own; a context manager."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self.curves = {name: Curve() for name in services}
        self._services = services
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        start = time.monotonic()
        while not self._stop.wait(_PERIOD_SECONDS):
            for name, service in self._services.items():
                self.curves[name].samples.append((time.monotonic() - start, read_resident_bytes(service.pid)))


def read_resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory")


def run(plan: Plan, say: Callable[[str], object]) -> dict[str, Flatness]:
    """Do one run and return how flat the memory of each service was.

    Raises:
        TimeoutError: the backlog did not drain.
    """
    folder = Path(tempfile.mkdtemp(prefix="hitcounter-memory-"))
    folder.chmod(0o755)
    with (
        own_redis(folder) as redis,
        own_elasticsearch(folder) as elasticsearch,
        Stack(redis.url, elasticsearch.url, folder) as stack,
    ):
        elasticsearch.start().wait_ready()
        api, indexer = stack.api(), stack.indexer()
        load = threading.Thread(target=_load, args=(api, plan), name="load")
        with Watch({"api": api.service, "indexer": indexer}) as watch:
            load.start()
            time.sleep(plan.warm_up_seconds / 3)
            elasticsearch.pause()
            time.sleep(plan.warm_up_seconds / 3)
            elasticsearch.resume()
            time.sleep(plan.warm_up_seconds / 3)
            say("stopping Elasticsearch")
            elasticsearch.stop()
            time.sleep(plan.outage_seconds)
            say(f"a backlog of {api.status()['backlog']:,} hits; starting Elasticsearch")
            elasticsearch.start().wait_ready()
            load.join()
            say(f"the load has ended, with a backlog of {api.status()['backlog']:,} hits")
            wait_until(api.status, lambda status: status["backlog"] == 0, 600.0)
            say(f"drained: {api.status()}")
        return {name: find_flatness(curve, plan.warm_up_seconds) for name, curve in watch.curves.items()}


def _load(api: Api, plan: Plan) -> None:
    target = parse_target(api.url)
    mix = build_mix(target, name_ids("memory", _IDS), skew="zipf", batch=None, seed=1)
    pace = OpenLoop(intended_times_ns(steady(plan.rate, plan.seconds)), give_up_seconds=plan.seconds + 10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Load(target, mix, pace, workers=64, timeout_seconds=5.0).run())


def main() -> int:
    """Do one run and say how flat the memory was."""
    options = _parse()
    plan = Plan(options.rate, options.warm_up, options.outage, options.afterwards)
    _say(f"{plan.seconds:g} s at {plan.rate:g} hits/s, Elasticsearch stopped for {plan.outage_seconds:g} of them")
    found = run(plan, _say)
    for name, flatness in found.items():
        _say(f"{'flat    ' if flatness.is_flat else 'NOT FLAT'}  {name:<8} {flatness}")
    if options.json is not None:
        sizes = {name: {"level": f.level, "least": f.least, "most": f.most} for name, f in found.items()}
        options.json.write_text(json.dumps(sizes, indent=2) + "\n")
    return 0 if all(flatness.is_flat for flatness in found.values()) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.memory",
        description=__doc__,
        epilog="A backlog of a million: --rate 3500 --warm-up 120 --outage 300 --afterwards 180",
    )
    parser.add_argument("--rate", type=float, default=2000.0, metavar="HITS", help="a second (default: 2000)")
    parser.add_argument("--warm-up", type=float, default=30.0, metavar="SECONDS", help="(default: 30)")
    parser.add_argument("--outage", type=float, default=60.0, metavar="SECONDS", help="(default: 60)")
    parser.add_argument("--afterwards", type=float, default=30.0, metavar="SECONDS", help="(default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the sizes there, too")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
