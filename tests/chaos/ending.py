"""The end of a run: everything is back, everything is counted, and every id is held against the client's record."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hitcounter.errors import HitcounterError
from hitcounter.ledger import Audit
from hitcounter.settings import RedisSettings
from hitcounter.stream import open_stream
from hitcounter_devstack import DevstackError
from pydantic import SecretStr

from tests.chaos.client import OpenLoopClient
from tests.chaos.conductor import Conductor, Incident
from tests.chaos.installation import Installation
from tests.chaos.record import Record, find_difference
from tests.chaos.report import Report, build_rows, find_percentiles, find_recovery_seconds
from tests.chaos.sampler import Sampler
from tests.chaos.traffic import Traffic
from tests.support.stack import wait_until
from tests.support.verdict import LONGEST

_READY_SECONDS: Final = 240.0
_REPEAT_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 240.0
_AFTERMATH_SECONDS: Final = 2.0
"""How long after a fault requests may still feel it."""


def finish(installation: Installation, sampler: Sampler, client: OpenLoopClient) -> list[str]:
    """Wait until all parts are back, the client is sure of its hits, and these are countable; say what is not."""
    unfinished = []
    try:
        installation.wait_ready(_READY_SECONDS)
    except DevstackError as error:
        unfinished.append(str(error))
    try:
        wait_until(lambda: client.is_clear, bool, _REPEAT_SECONDS)
    except TimeoutError:
        unfinished.append(f"{len(client.record.unclear)} hits with a key were never acknowledged")
    sent_ms = time.time_ns() // 1_000_000
    try:
        wait_until(
            lambda: sampler.last,
            lambda look: look is not None and look.backlog == 0 and look.as_of_ms > sent_ms,
            _DRAIN_SECONDS,
        )
    except TimeoutError as error:
        unfinished.append(f"not drained: {error}")
    return unfinished


def read_counts(installation: Installation, record: Record) -> dict[str, int | None]:
    """Return what is counted of every id; None where there is no answer."""
    api = next(iter(installation.apis.values()))
    counts: dict[str, int | None] = {}
    for id_ in sorted(record.ids):
        try:
            counts[id_] = api.counts(id_)[LONGEST]
        except (urllib.error.URLError, TimeoutError):
            counts[id_] = None
    return counts


def compare(record: Record, counts: Mapping[str, int | None]) -> list[str]:
    complaints = []
    for id_, known in sorted(record.ids.items()):
        counted = counts[id_]
        if counted is None:
            complaints.append(f"{id_}: no answer")
        elif difference := find_difference(known, counted):
            kind = "lost" if difference < 0 else "too many"
            complaints.append(
                f"{id_}: {abs(difference)} {kind}: counted {counted}, acknowledged {known.acknowledged}, "
                f"unknown {known.doubtful}"
            )
    return complaints


async def audit(installation: Installation) -> Audit | None:
    settings = RedisSettings(url=SecretStr(installation.redis.url), prefix=installation.stack.name)
    try:
        async with open_stream(settings) as stream:
            return await stream.monitor.audit()
    except HitcounterError:
        return None


def judge_audit(audit: Audit | None, record: Record) -> list[str]:
    if audit is None:
        return ["Redis could not be audited"]
    least = record.acknowledged_attempts
    complaints = {
        f"{audit.after.dead} hits are dead letters": audit.after.dead != 0,
        f"the audit finds a difference of {audit.difference}, {audit.dead_difference} in dead letters": (
            not audit.is_exact or audit.difference != 0 or audit.dead_difference != 0
        ),
        f"{audit.after.accepted} hits accepted, {least} acknowledged, {record.unknown_attempts} unknown": (
            not least <= audit.after.accepted <= least + record.unknown_attempts
        ),
    }
    return [complaint for complaint, is_true in complaints.items() if is_true]


def read_complaints_of_logs(installation: Installation) -> list[str]:
    """Return what our own parts have logged as errors, and what they printed beside their log."""
    complaints = []
    for name, service in installation.services.items():
        for line in service.log_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                complaints.append(f"{name}: {line}")
                continue
            if entry.get("level") == "error":
                complaints.append(f"{name}: {line[-600:]}")
    return complaints


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known at the end of a run."""

    record: Record
    sampler: Sampler
    traffic: Traffic
    incidents: Sequence[Incident]
    counts: Mapping[str, int | None]
    checks: Mapping[str, Sequence[str]]


def collect(
    installation: Installation,
    record: Record,
    sampler: Sampler,
    traffic: Traffic,
    conductor: Conductor,
    unfinished: Sequence[str],
) -> Evidence:
    """Read every count, audit, look into the logs; the installation still runs, and is drained."""
    counts = read_counts(installation, record)
    checks = {
        "id by id: acknowledged <= counted <= acknowledged + unknown; exactly, with keys": compare(record, counts),
        "the ledger balances and never goes back, at every look": sampler.complaints,
        "the as-of was true at every read, and no count too high": traffic.readers.complaints,
        "all parts came back, all hits were settled": unfinished,
        "nothing became a dead letter, and the audit is exact": judge_audit(asyncio.run(audit(installation)), record),
        "refusals say so, and when to come again": traffic.client.complaints,
        "no part ended by itself, and SIGTERM ends with 0": conductor.complaints,
        "the logs contain nothing unexpected": read_complaints_of_logs(installation),
    }
    return Evidence(record, sampler, traffic, conductor.incidents, counts, checks)


def build_report(seed: int, duration_seconds: float, rate: float, start_ms: int, evidence: Evidence) -> Report:
    """Return the report of a run that began at that time."""
    record, sampler, traffic = evidence.record, evidence.sampler, evidence.traffic
    counts, incidents, checks = evidence.counts, evidence.incidents, evidence.checks
    last = sampler.last
    known = record.ids.values()
    differences = [find_difference(record.ids[id_], counted) for id_, counted in counts.items() if counted is not None]
    readers = traffic.readers.answers
    busy = [(incident.began_seconds, incident.ready_seconds + _AFTERMATH_SECONDS) for incident in incidents]
    return Report(
        seed=seed,
        duration_seconds=duration_seconds,
        rate=rate,
        faults=build_rows(
            [
                (
                    str(incident.fault.kind),
                    incident.undone_seconds - incident.began_seconds,
                    find_recovery_seconds(start_ms + int(incident.undone_seconds * 1000), sampler.freshness),
                )
                for incident in incidents
            ]
        ),
        hits={
            "requests": record.sent_attempts,
            "requests acknowledged": record.acknowledged_attempts,
            "requests refused": record.attempts["503 refused"],
            "requests of which nobody can know": record.unknown_attempts,
            "hits acknowledged": sum(id_.acknowledged for id_ in known),
            "hits without a key that remain unknown": sum(id_.doubtful for id_ in known),
            "hits counted": sum(counted or 0 for counted in counts.values()),
            "hits lost": -sum(min(0, difference) for difference in differences),
            "hits counted twice": sum(max(0, difference) for difference in differences),
            "ledger: accepted": last.accepted if last else 0,
            "ledger: indexed": last.indexed if last else 0,
            "ledger: duplicate": last.duplicate if last else 0,
            "ledger: dead": last.dead if last else 0,
            "largest backlog": sampler.largest_backlog,
        },
        samples={
            "ledger samples": sampler.samples,
            "/status samples": sampler.statuses,
            "reads, fresh": readers["fresh"],
            "reads, stale": readers["stale"],
            "reads, refused or without an answer": readers.total() - readers["fresh"] - readers["stale"],
        },
        track_ms=find_percentiles(*traffic.client.latencies, busy),
        checks=checks,
    )
