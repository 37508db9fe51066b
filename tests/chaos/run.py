"""One run: an installation, a load, a schedule of faults; then everything heals, drains and is compared."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hitcounter_benchmark.schedule import OpenLoop, intended_times_ns, steady
from hitcounter_benchmark.target import parse_target

from tests.chaos.client import OpenLoopClient
from tests.chaos.conductor import Conductor
from tests.chaos.ending import build_report, collect, finish
from tests.chaos.hits import HitMaker
from tests.chaos.installation import Installation
from tests.chaos.reader import AsOfReaders
from tests.chaos.record import Record
from tests.chaos.report import Report
from tests.chaos.sampler import Sampler
from tests.chaos.schedule import GAP_SECONDS, Fault, build_schedule
from tests.chaos.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do; the seed decides the rest."""

    seed: int
    duration_seconds: float
    rate: float
    gap_seconds: float = GAP_SECONDS

    def build_schedule(self) -> list[Fault]:
        """Return the faults of this plan."""
        return build_schedule(self.seed, self.duration_seconds, gap_seconds=self.gap_seconds)


def build_traffic(installation: Installation, record: Record, plan: Plan) -> Traffic:
    """Return the client of a run and its readers."""
    targets = [parse_target(api.url) for api in installation.apis.values()]
    times = intended_times_ns(steady(plan.rate, plan.duration_seconds))
    client = OpenLoopClient(
        targets,
        record,
        pace=OpenLoop(times, give_up_seconds=plan.duration_seconds),
        hits=HitMaker(plan.seed),
        seed=plan.seed,
        faulty_ways=[parse_target(url) for url in installation.faulty_ways],
    )
    return Traffic(client, AsOfReaders(targets, record, plan.seed))


def run(plan: Plan, write: Callable[[str], object]) -> Report:
    """Do one run and return what it has shown. Blocks for the duration and up to a few minutes more.

    Args:
        plan: what to do.
        write: is given what happens, line by line, and where data and logs are kept if the run is not good.
    """
    folder = Path(tempfile.mkdtemp(prefix="hitcounter-chaos-"))
    folder.chmod(0o755)  # Elasticsearch may run as another user
    report = _run(plan, folder, lambda line: write(f"{line}\n"))
    if report.is_good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        write(f"data and logs are kept in {folder}\n")
    return report


def _run(plan: Plan, folder: Path, say: Callable[[str], object]) -> Report:
    say("starting Redis, Elasticsearch, 2 APIs and 3 indexers")
    record = Record()
    with Installation(folder, plan.seed) as installation:
        urls = [api.url for api in installation.apis.values()]
        with (
            Sampler(installation.redis.url, installation.stack.name, urls, record) as sampler,
            build_traffic(installation, record, plan) as traffic,
        ):
            start_ms, start = time.time_ns() // 1_000_000, time.monotonic()
            conductor = Conductor(installation, start, say)
            conductor.play(plan.build_schedule())
            time.sleep(max(0.0, plan.duration_seconds - (time.monotonic() - start)))
            say("healed; waiting until all is counted")
            unfinished = finish(installation, sampler, traffic.client)
            conductor.watch()
        evidence = collect(installation, record, sampler, traffic, conductor, unfinished)
    return build_report(plan.seed, plan.duration_seconds, plan.rate, start_ms, evidence)
