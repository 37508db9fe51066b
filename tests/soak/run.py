"""One soak: an installation at shipped settings, a load it can bear, faults that last; then everything is compared."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hitcounter_benchmark.target import parse_target
from hitcounter_indexer.settings import IndexerSection

from tests.chaos.client import OpenLoopClient
from tests.chaos.conductor import Conductor, Incident
from tests.chaos.ending import build_report, collect, finish
from tests.chaos.installation import Installation, Shape
from tests.chaos.reader import AsOfReaders
from tests.chaos.sampler import Sampler
from tests.chaos.schedule import INDEXERS
from tests.chaos.traffic import Traffic
from tests.chaos.versions import build_environment, check_out
from tests.soak.judge import find_calm, find_levels, find_recovery_seconds, judge
from tests.soak.load import SoakHits, SoakRecord, Tempo
from tests.soak.plan import RECOVERY_SECONDS, Plan
from tests.soak.report import GOOD, Outcome, SoakReport
from tests.soak.watch import Moment, Watch
from tests.support.stack import wait_until

SOAK: Final = Shape(
    apis=("api-0", "api-1", "api-2"),
    indexers=INDEXERS,
    # The tests' stack has a shorter one, which would hide what takes as long as it takes in production.
    settings={"HITCOUNTER_INDEXER__RECLAIM_AFTER_SECONDS": str(IndexerSection().reclaim_after_seconds)},
    elasticsearch_seconds=(0.25, 0.30),
    has_faulty_bulks=False,
    has_wires_to_redis=False,
)
RATE: Final = 1500.0
"""Hits a second: on two cores they leave as well over 1,000 entries a second."""
_CALM_SECONDS: Final = 12.0
_CALM_TRIES: Final = 4
_LEAST_SETTLING_SECONDS: Final = 5.0
_MOST_SETTLING_SECONDS: Final = 30.0
_SLOWER: Final = 0.6
_BEARABLE_SECONDS: Final = 5.0
_READER_PAUSE_SECONDS: Final = 0.25
_MIB: Final = 1024 * 1024


def run(plan: Plan, write: Callable[[str], object], *, commit: str | None = None) -> SoakReport:
    """Do one soak and return what it has shown. Blocks for its duration, and a minute or more beside.

    Args:
        plan: what to do.
        write: is given what happens, line by line, and where data and logs are kept if the run is not good.
        commit: whose APIs and indexers to run; None for the present ones.
    """
    folder = Path(tempfile.mkdtemp(prefix="hitcounter-soak-"))
    folder.chmod(0o755)  # Elasticsearch may run as another user
    code = {} if commit is None else build_environment(check_out(commit, folder / "other"))
    shape = replace(SOAK, settings={**SOAK.settings, **code})
    report = _run(plan, shape, folder, lambda line: write(f"{time.strftime('%H:%M:%S')} {line}\n"))
    if report.exit_code == GOOD:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        write(f"data and logs are kept in {folder}\n")
    return report


def _run(plan: Plan, shape: Shape, folder: Path, say: Callable[[str], object]) -> SoakReport:
    say(f"starting Redis, Elasticsearch, {len(shape.apis)} APIs and {len(shape.indexers)} indexers")
    record, tempo = SoakRecord(), Tempo(plan.rate)
    with Installation(folder, plan.seed, shape) as installation:
        urls = [api.url for api in installation.apis.values()]
        targets = [parse_target(url) for url in urls]
        start_ms = time.time_ns() // 1_000_000
        client = OpenLoopClient(targets, record, pace=tempo, hits=SoakHits(plan.seed, tempo, start_ms), seed=plan.seed)
        readers = AsOfReaders(targets, record, plan.seed, of_each_api=1, pause_seconds=_READER_PAUSE_SECONDS)
        with (
            Sampler(installation.redis.url, installation.stack.name, urls, record) as sampler,
            Traffic(client, readers) as traffic,
            Watch(installation, sampler, client, record, start_ms, say) as watch,
        ):
            rate = _find_rate(watch, tempo, say)
            watch.restart()
            conductor = Conductor(installation, watch.start, say)
            conductor.play(plan.faults)
            conductor.wait_until(plan.duration_seconds)
            duration_seconds = time.monotonic() - watch.start
            tempo.stop()
            say("the load has ended; waiting until all is counted")
            unfinished = finish(installation, sampler, traffic.client)
            conductor.watch()
        installation.approach_elasticsearch()
        say("comparing every id")
        evidence = collect(installation, record, sampler, traffic, conductor, unfinished)
    moments = watch.moments
    return SoakReport(
        run=build_report(plan.seed, duration_seconds, rate, int(watch.start_ms), evidence),
        command=plan.command,
        outcomes=[_describe(incident, conductor.incidents, moments) for incident in conductor.incidents],
        breaches=judge(conductor.incidents, moments),
        figures=_find_figures(moments, rate, duration_seconds),
        memory_mib=_find_memory(moments),
    )


def _find_rate(watch: Watch, tempo: Tempo, say: Callable[[str], object]) -> float:
    """Slow down until nothing waits; the settings stay as they are."""
    for _ in range(_CALM_TRIES):
        time.sleep(_LEAST_SETTLING_SECONDS)
        with contextlib.suppress(TimeoutError):  # what the start left behind, or the rate before
            wait_until(lambda: watch.moments[-1:], _is_bearable, _MOST_SETTLING_SECONDS)
        watch.restart()
        time.sleep(_CALM_SECONDS)
        quiet = [moment for moment in watch.moments if moment.at_seconds > 0]
        if _is_bearable(quiet):
            break
        tempo.rate *= _SLOWER
        say(f"hits wait on this machine: going on with {tempo.rate:.0f} a second")
    return tempo.rate


def _is_bearable(moments: Sequence[Moment]) -> bool:
    return bool(moments) and all(max(m.oldest_age_seconds, m.today_lag_seconds) <= _BEARABLE_SECONDS for m in moments)


def _describe(incident: Incident, incidents: Sequence[Incident], moments: Sequence[Moment]) -> Outcome:
    began, undone = incident.began_seconds, incident.undone_seconds
    around = [m for m in moments if began <= m.at_seconds <= undone + RECOVERY_SECONDS]
    before = [m for m in moments if m.at_seconds <= began][-5:]
    return Outcome(
        kind=str(incident.fault.kind),
        victim=incident.fault.victim,
        began_seconds=began,
        lasted_seconds=undone - began,
        recovery_seconds=find_recovery_seconds(incident, incidents, moments),
        worst_today_lag_seconds=max((m.today_lag_seconds for m in around), default=0.0),
        worst_as_of_lag_seconds=max((m.as_of_lag_seconds for m in around), default=0.0),
        entries_in_flight=max((m.entries_in_flight for m in before), default=0),
    )


def _find_figures(moments: Sequence[Moment], rate: float, duration_seconds: float) -> dict[str, float]:
    played = [moment for moment in moments if 0 <= moment.at_seconds <= duration_seconds]
    if len(played) < 2:
        return {}
    seconds = played[-1].at_seconds - played[0].at_seconds
    quiet = find_calm(moments)
    late = sorted(moment.late_seconds for moment in played)
    return {
        "hits a second, intended": rate,
        "hits a second, accepted": (played[-1].accepted - played[0].accepted) / seconds,
        "entries a second": (played[-1].entries_added - played[0].entries_added) / seconds,
        "entries in flight before the first fault, mean": sum(m.entries_in_flight for m in quiet) / len(quiet),
        "entries in flight, most": max(m.entries_in_flight for m in played),
        "as-of behind before the first fault, worst, seconds": max(m.as_of_lag_seconds for m in quiet),
        "hits of today behind, worst, seconds": max(m.today_lag_seconds for m in played),
        "largest backlog, hits": max(m.backlog for m in played),
        "load generator kept from running, 99 % of seconds, seconds": late[int(len(late) * 0.99)],
        "CPU used by others, mean share": sum(m.foreign_share for m in played) / len(played),
        "CPU idle, mean share": sum(m.idle_share for m in played) / len(played),
    }


def _find_memory(moments: Sequence[Moment]) -> dict[str, tuple[float, float]]:
    return {
        name: (level / _MIB, max(m.resident_bytes.get(name, 0) for m in moments) / _MIB)
        for name, level in find_levels(moments).items()
    }
