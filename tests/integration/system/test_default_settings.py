"""Faults that last longer than a silence, at the settings that ship (issue 14): reclaim after 30 s, time-outs of 30 s.

All of it at once, each fault in an installation of its own: a day that is red, closed or read-only while late hits for
it arrive, one in a thousand; and an indexer that is killed while hundreds of entries are in flight.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from hitcounter.hits import DAY_MS
from hitcounter.indices import build_index, index_of
from hitcounter.settings import IndexSettings
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import Service

from tests.support.proxy import FaultyWire
from tests.support.stack import Stack
from tests.support.verdict import LONGEST

_FAULT_SECONDS: Final = 45.0
"""Longer than a silence, so that everything left behind has come back at least once."""
_HEALED_SECONDS: Final = 60.0
_DEFAULTS: Final = {"HITCOUNTER_INDEXER__RECLAIM_AFTER_SECONDS": "30"}
_HITS_PER_ENTRY: Final = 20
_ENTRIES_PER_SECOND: Final = 25
_LATE_EVERY: Final = 50
"""Entries: one hit in a thousand."""
_UNDER_WAY_SECONDS: Final = 6.0
"""A generous bulk, and its settling, on a machine with other work."""


class Load(threading.Thread):
    """Sends entries at a steady rate: with hits of now, and in some of them one hit of yesterday."""

    def __init__(self, url: str, *, entries_per_second: float, hits: int, late_every: int = 0) -> None:
        super().__init__(name="load")
        self._address = urlsplit(url)
        self._pause = 1 / entries_per_second
        self._hits = hits
        self._late_every = late_every
        self._stop_asked = threading.Event()
        self._yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        self.sent = 0
        self.late = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._address.netloc, timeout=30)
        next_at, number = time.monotonic(), 0
        while not self._stop_asked.is_set():
            is_late = self._late_every > 0 and number % self._late_every == self._late_every // 2
            hits: list[dict[str, str]] = [{"id": "today"}] * (self._hits - is_late)
            if is_late:
                hits = [*hits, {"id": "late", "timestamp": self._yesterday}]
            connection.request("POST", "/analytics/batch", json.dumps(hits))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 204
            number += 1
            self.sent += len(hits)
            self.late += is_late
            next_at += self._pause
            time.sleep(max(0.0, next_at - time.monotonic()))
        connection.close()

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(60)


@dataclass
class Seen:
    """What was seen of one installation."""

    most_held_up: float = 0.0
    """Hits in the backlog beyond those of entries with a late hit; from when the breaker had its time to open."""
    oldest_seconds: list[float] = field(default_factory=list)
    healed_after_seconds: float = 0.0
    metrics: str = ""
    """Of the indexer, at the end of the fault."""
    ready: dict[str, Any] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    late_entries: int = 0
    status: dict[str, Any] = field(default_factory=dict)

    def metric(self, name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", self.metrics, re.MULTILINE))


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def call(server: ElasticsearchServer, method: str, path: str, body: object = None) -> None:
    request = urllib.request.Request(
        f"{server.url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=60).close()


class Scenarios:
    """Runs each fault in an installation of its own."""

    def __init__(self, redis: RedisServer, elasticsearch: ElasticsearchServer, folder: Path) -> None:
        self._redis = redis
        self._elasticsearch = elasticsearch
        self._folder = folder
        self._exits = ExitStack()

    def __enter__(self) -> Scenarios:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self, name: str) -> Stack:
        folder = self._folder / name
        folder.mkdir()
        return self._exits.enter_context(Stack(self._redis.url, self._elasticsearch.url, folder))

    def refuse(
        self,
        name: str,
        spoil: Callable[[ElasticsearchServer, str], None],
        heal: Callable[[ElasticsearchServer, str], None],
    ) -> Seen:
        """Let late hits arrive for a day that takes nothing, then repair it."""
        stack = self.start(name)
        yesterday = index_of(stack.name, time.time_ns() // 1_000_000 - DAY_MS)
        spoil(self._elasticsearch, f"/{yesterday}")
        api, indexer = stack.api(), stack.indexer(_DEFAULTS)
        load = Load(api.url, entries_per_second=_ENTRIES_PER_SECOND, hits=_HITS_PER_ENTRY, late_every=_LATE_EVERY)
        seen, started = Seen(), time.monotonic()
        load.start()
        try:
            while (elapsed := time.monotonic() - started) < _FAULT_SECONDS:
                time.sleep(1)
                if elapsed > 20:
                    late = load.late
                    backlog = api.status()["backlog"]
                    seen.most_held_up = max(seen.most_held_up, backlog - late * _HITS_PER_ENTRY)
        finally:
            load.stop()
        self._note_fault(seen, indexer)
        heal(self._elasticsearch, f"/{yesterday}")
        healed = time.monotonic()
        seen.status = api.wait_drained(_HEALED_SECONDS + 30)
        seen.healed_after_seconds = time.monotonic() - healed
        seen.late_entries = load.late
        seen.sent = {"today": load.sent - load.late, "late": load.late}
        seen.counted = {id_: api.counts(id_)[LONGEST] for id_ in seen.sent}
        return seen

    def kill(self, name: str) -> Seen:
        """Kill one of two indexers while hundreds of entries are in flight."""
        stack = self.start(name)
        wire = self._exits.enter_context(FaultyWire(self._elasticsearch.url))
        api, survivor = stack.api(), stack.indexer(_DEFAULTS, HITCOUNTER_ELASTICSEARCH__URL=wire.url)
        victim = stack.indexer(_DEFAULTS, HITCOUNTER_ELASTICSEARCH__URL=wire.url)
        wire.delay(0.7)
        load = Load(api.url, entries_per_second=100, hits=2)
        seen = Seen()
        load.start()
        try:
            time.sleep(10)
            victim.kill()
            killed = time.monotonic()
            while time.monotonic() - killed < _FAULT_SECONDS + 5:
                time.sleep(1)
                seen.oldest_seconds.append(api.status()["oldest_age_seconds"] or 0.0)
        finally:
            load.stop()
        self._note_fault(seen, survivor)
        wire.heal()
        seen.status = api.wait_drained(90)
        seen.sent = {"today": load.sent}
        seen.counted = {"today": api.counts("today")[LONGEST]}
        return seen

    @staticmethod
    def _note_fault(seen: Seen, indexer: Service) -> None:
        seen.metrics = read(indexer.ready_url.replace("/readyz", "/metrics"))
        try:
            seen.ready = json.loads(read(indexer.ready_url))
        except OSError as error:
            seen.ready = {"ready": False, "error": str(error)}


def create(server: ElasticsearchServer, path: str, **settings: object) -> None:
    index = path[1:]
    body: Any = build_index(index.rpartition("-")[0], index, IndexSettings(replicas=0))
    body["settings"]["index"] |= settings
    call(server, "PUT", f"{path}?wait_for_active_shards=0", body)


def make_red(server: ElasticsearchServer, path: str) -> None:
    create(server, path, **{"routing.allocation.include._name": "nobody"})


def allocate(server: ElasticsearchServer, path: str) -> None:
    call(server, "PUT", f"{path}/_settings", {"index.routing.allocation.include._name": None})


def make_closed(server: ElasticsearchServer, path: str) -> None:
    create(server, path)
    call(server, "POST", f"{path}/_close")


def reopen(server: ElasticsearchServer, path: str) -> None:
    call(server, "POST", f"{path}/_open")


def make_read_only(server: ElasticsearchServer, path: str) -> None:
    create(server, path, **{"blocks.write": True})


def make_writable(server: ElasticsearchServer, path: str) -> None:
    call(server, "PUT", f"{path}/_settings", {"index.blocks.write": None})


@pytest.fixture(scope="module")
def seen(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Seen]]:
    with (
        Scenarios(redis_server, elasticsearch_server, tmp_path_factory.mktemp("defaults")) as scenarios,
        ThreadPoolExecutor() as pool,
    ):
        under_way = {
            "red": pool.submit(scenarios.refuse, "red", make_red, allocate),
            "closed": pool.submit(scenarios.refuse, "closed", make_closed, reopen),
            "read-only": pool.submit(scenarios.refuse, "read-only", make_read_only, make_writable),
            "killed": pool.submit(scenarios.kill, "killed"),
        }
        yield {name: future.result() for name, future in under_way.items()}


refused_days = pytest.mark.parametrize("fault", ["red", "closed", "read-only"])


@refused_days
def test_hits_of_today_never_wait_for_a_day_that_refuses_its_own(seen: Mapping[str, Seen], fault: str) -> None:
    rate = _ENTRIES_PER_SECOND * _HITS_PER_ENTRY
    assert seen[fault].most_held_up < _UNDER_WAY_SECONDS * rate
    assert seen[fault].ready["ready"]
    assert list(seen[fault].ready["warnings"])


@refused_days
def test_entries_that_wait_for_a_day_are_not_sent_again_and_again_and_are_no_push_back(
    seen: Mapping[str, Seen], fault: str
) -> None:
    assert seen[fault].metric('hitcounter_bulk_items_total{outcome="duplicate"}') == 0
    assert seen[fault].metric("hitcounter_left_entries") == seen[fault].late_entries
    retried = re.findall(r"^hitcounter_retried_documents_total{.*} (\S+)$", seen[fault].metrics, re.MULTILINE)
    assert sum(map(float, retried)) < 10


@refused_days
def test_everything_is_settled_within_a_minute_of_the_repair_of_a_day(seen: Mapping[str, Seen], fault: str) -> None:
    assert seen[fault].healed_after_seconds < _HEALED_SECONDS
    assert seen[fault].counted == seen[fault].sent
    assert seen[fault].status["dead"] == 0


def test_entries_of_a_killed_indexer_are_settled_within_a_minute_while_hundreds_are_in_flight(
    seen: Mapping[str, Seen],
) -> None:
    killed = seen["killed"]
    assert killed.metric("hitcounter_entries_in_flight") > 100, "the test is none without them"
    assert max(killed.oldest_seconds) < 60
    assert killed.oldest_seconds[-1] < 20
    assert killed.counted == killed.sent
