"""What a soak looks at once a second: who waits for how long, how large the processes are, how busy the machine is."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hitcounter.indices import index_of

from tests.chaos.client import OpenLoopClient
from tests.chaos.installation import Installation
from tests.chaos.memory import read_resident_bytes
from tests.chaos.sampler import Sampler
from tests.soak.load import SoakRecord

_PERIOD_SECONDS: Final = 1.0
_SAID_EVERY: Final = 15
"""Moments: one of so many is printed."""
_SEARCH_TIMEOUT_SECONDS: Final = 10.0
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Moment:
    """One look."""

    at_seconds: float
    """Since the schedule began."""
    as_of_lag_seconds: float
    """How far the as-of is behind the true time."""
    oldest_age_seconds: float
    """How long the oldest accepted hit that is not settled has waited."""
    today_lag_seconds: float
    """How long ago the first hit of today was acknowledged that a search does not find."""
    accepted: int
    backlog: int
    """In hits."""
    entries_added: int
    entries_in_flight: int
    resident_bytes: Mapping[str, int]
    """By process."""
    foreign_share: float
    """Of the machine's CPU, what others used since the last look; 0 to 1."""
    idle_share: float
    late_seconds: float
    """The longest that the load generator itself was kept from running since the last look."""

    def __str__(self) -> str:
        return (
            f"{self.at_seconds:7.2f} s  as-of {self.as_of_lag_seconds:.1f} s behind, oldest hit "
            f"{self.oldest_age_seconds:.1f} s old, today {self.today_lag_seconds:.1f} s behind, backlog "
            f"{self.backlog:,} hits, {self.entries_in_flight:,} entries in flight; "
            f"others use {self.foreign_share:.0%} of the CPU"
        )


class TodayWatch:
    """Finds out since when hits of today wait to be found, by a search in their indices; pure but for `look`.

    Hits carry the API's time, which is no later than their acknowledgement. So of all documents with a time before T
    there must be at least as many hits as were acknowledged before T.
    """

    def __init__(self, url: str, prefix: str, record: SoakRecord, start_ms: int) -> None:
        self._url = url
        self._prefix = prefix
        self._record = record
        self._first_ms = start_ms - start_ms % 1000
        self._start_ms = start_ms
        self._complete_ms = self._first_ms
        """All hits that were acknowledged before this second have been found."""

    def look(self) -> float:
        """Search, and return since how many seconds the oldest hit waits; if the search fails, with what was known."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            self._complete_ms = self._find_complete(self._search())
        return time.time() - self._complete_ms / 1000

    def _find_complete(self, found: tuple[int, Mapping[int, int]]) -> int:
        before, by_second = found
        now_ms = time.time_ns() // 1_000_000
        second_ms, total = self._complete_ms, before
        while second_ms + 1000 <= now_ms:
            total += by_second.get(second_ms, 0)
            if total < self._record.count_today_before(second_ms + 1000):
                break
            second_ms += 1000
        return second_ms

    def _search(self) -> tuple[int, Mapping[int, int]]:
        days = {index_of(self._prefix, time_ms) for time_ms in (self._start_ms, time.time_ns() // 1_000_000)}
        since = {"range": {"timestamp": {"gte": self._complete_ms}}}
        body = {
            "size": 0,
            "timeout": f"{_SEARCH_TIMEOUT_SECONDS:g}s",
            "aggs": {
                "before": {
                    "filter": {"range": {"timestamp": {"lt": self._complete_ms}}},
                    "aggs": {"n": {"sum": {"field": "n"}}},
                },
                "since": {
                    "filter": since,
                    "aggs": {
                        "seconds": {
                            "date_histogram": {"field": "timestamp", "fixed_interval": "1s", "min_doc_count": 1},
                            "aggs": {"n": {"sum": {"field": "n"}}},
                        }
                    },
                },
            },
        }
        request = urllib.request.Request(
            f"{self._url}/{','.join(sorted(days))}/_search?ignore_unavailable=true&allow_partial_search_results=false",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_SEARCH_TIMEOUT_SECONDS) as answer:
            aggregations: dict[str, Any] = json.load(answer)["aggregations"]
        buckets = aggregations["since"]["seconds"]["buckets"]
        return int(aggregations["before"]["n"]["value"]), {
            int(bucket["key"]): int(bucket["n"]["value"]) for bucket in buckets
        }


class Machine:
    """How the CPU of this machine was shared between two looks (Linux)."""

    def __init__(self, find_pids: Callable[[], Mapping[str, int]]) -> None:
        self._find_pids = find_pids
        self._before = self._read()

    def look(self) -> tuple[float, float]:
        """Return the share of others and the idle share since the last look."""
        before, now = self._before, self._read()
        self._before = now
        total = now[0] - before[0]
        if total <= 0:
            return 0.0, 1.0
        idle = now[1] - before[1]
        # A process that was started in between brings all of its time, one that has ended takes its own along.
        own = sum(max(0, ticks - before[2].get(pid, 0)) for pid, ticks in now[2].items())
        return max(0.0, (total - idle - own) / total), max(0.0, idle / total)

    def _read(self) -> tuple[int, int, dict[int, int]]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        own = {pid: _read_ticks(pid) for pid in {os.getpid(), *self._find_pids().values()}}
        return sum(fields), fields[3] + fields[4], own


def _read_ticks(pid: int) -> int:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(after_name[11]) + int(after_name[12])


class Watch:
    """Looks once a second, on threads of its own, until the block ends; a context manager.

    Attributes:
        moments: what was seen, in order.
        start: when the schedule began, by time.monotonic.
        start_ms: the same by the wall clock.
    """

    def __init__(
        self,
        installation: Installation,
        sampler: Sampler,
        client: OpenLoopClient,
        record: SoakRecord,
        start_ms: int,
        say: Callable[[str], object],
    ) -> None:
        self.moments: list[Moment] = []
        self.start = time.monotonic()
        self.start_ms = time.time() * 1000
        self._installation = installation
        self._sampler = sampler
        self._client = client
        self._today = TodayWatch(installation.elasticsearch.url, installation.stack.name, record, start_ms)
        self._say = say
        self._today_lag_seconds = 0.0
        self._today_seen = time.monotonic()
        self._machine = Machine(self._find_pids)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_on, name="watch"),
            threading.Thread(target=self._search_on, name="watch of today"),
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def restart(self) -> None:
        """Let the schedule begin now: what was seen until now was before it."""
        now = time.monotonic()
        passed = now - self.start
        self.start, self.start_ms = now, time.time() * 1000
        self.moments = [replace(m, at_seconds=m.at_seconds - passed) for m in self.moments]

    def _find_pids(self) -> dict[str, int]:
        return {name: part.pid for name, part in self._installation.parts.items() if part.is_running}

    def _search_on(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self._today_lag_seconds, self._today_seen = self._today.look(), time.monotonic()

    def _look_on(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            look = self._sampler.last
            foreign_share, idle_share = self._machine.look()
            late_seconds, self._client.worst_tick_seconds = self._client.worst_tick_seconds, 0.0
            if look is None or look.as_of_ms == 0:
                continue
            now = time.monotonic()
            if len(self.moments) % _SAID_EVERY == 0 and self.moments:
                self._say(str(self.moments[-1]))
            self.moments.append(
                Moment(
                    at_seconds=now - self.start,
                    as_of_lag_seconds=time.time() - look.as_of_ms / 1000,
                    oldest_age_seconds=look.oldest_age_seconds,
                    today_lag_seconds=self._today_lag_seconds + now - self._today_seen,
                    accepted=look.accepted,
                    backlog=look.backlog,
                    entries_added=look.added,
                    entries_in_flight=look.pending,
                    resident_bytes=self._read_memory(),
                    foreign_share=foreign_share,
                    idle_share=idle_share,
                    late_seconds=late_seconds,
                )
            )

    def _read_memory(self) -> dict[str, int]:
        sizes = {}
        for name, pid in self._find_pids().items():
            with contextlib.suppress(OSError):  # it may have been killed a moment ago
                sizes[name] = read_resident_bytes(pid)
        return sizes
