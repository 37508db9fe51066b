"""A whole installation under load, with a real Prometheus that watches it."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hitcounter_devstack import ElasticsearchServer, PrometheusServer, RedisServer, Service

from tests.support.client import RecordingClient
from tests.support.stack import Api, Stack, own_elasticsearch, own_redis, wait_until

RULES = Path(__file__).parents[3] / "charts/hitcounter/files/rules/hitcounter.yaml"


@dataclass(frozen=True)
class Installation:
    """All the parts, each of which a test may stop, freeze or start again."""

    redis: RedisServer
    elasticsearch: ElasticsearchServer
    stack: Stack
    api: Api
    indexer: Service
    prometheus: PrometheusServer

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the vector that an expression gives now."""
        question = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.prometheus.url}/api/v1/query?{question}", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def values(self, expression: str) -> list[float]:
        """Return the numbers of that vector which are numbers."""
        numbers = [float(sample["value"][1]) for sample in self.query(expression)]
        return [number for number in numbers if not math.isnan(number)]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}

    def wait_firing(self, *alerts: str, timeout_seconds: float = 120.0) -> None:
        """Wait until all of these alerts fire, whichever others do."""
        wait_until(self.firing, lambda firing: set(alerts) <= firing, timeout_seconds)

    def wait_calm(self, timeout_seconds: float = 120.0) -> None:
        """Wait until no alert fires."""
        wait_until(self.firing, lambda firing: not firing, timeout_seconds)


@contextlib.contextmanager
def run_installation(folder: Path, rules: Path, *, interval_seconds: float) -> Iterator[Installation]:
    """Run an installation of its own servers, under a little load and some reads, while the block runs."""
    with own_redis(folder) as redis, own_elasticsearch(folder) as elasticsearch:
        elasticsearch.start().wait_ready()
        with Stack(redis.url, elasticsearch.url, folder) as stack:
            # A frozen Elasticsearch lets each read wait that long, and the ranges of shortened rules are short.
            api = stack.api(HITCOUNTER_READS__TIMEOUT_SECONDS="0.5")
            indexer = stack.indexer()
            parts = {"api": api.service, "indexer": indexer}
            prometheus = PrometheusServer(
                folder / "prometheus",
                targets={name: [urlsplit(part.ready_url).netloc] for name, part in parts.items()},
                rules=[rules],
                interval_seconds=interval_seconds,
            )
            with prometheus, RecordingClient([api.url], ids=20, connections=2), _reads(api):
                yield Installation(redis, elasticsearch, stack, api, indexer, prometheus)


@contextlib.contextmanager
def _reads(api: Api) -> Iterator[None]:
    """Read counts a few times a second, whatever is answered."""
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.2):
            with contextlib.suppress(OSError):
                api.counts("id-1")

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join(15)
