"""The command against a real installation: what it reports as acknowledged is counted."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.support.stack import Stack


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hitcounter_benchmark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_every_acknowledged_hit_of_the_spam_is_counted(stack: Stack) -> None:
    api = stack.api()
    stack.indexer()
    for _ in range(2):  # the second time, the id has hits already
        shown = run("--url", api.url, "--requests", "3000", "-w", "8", "-i", "a/b ü")
        assert (shown.returncode, shown.stderr.count("Traceback")) == (0, 0)
        assert "counted 3,000 = acknowledged 3,000" in shown.stdout


def test_many_ids_in_batches_are_counted_one_by_one(stack: Stack) -> None:
    api = stack.api()
    stack.indexer()
    shown = run("--url", api.url, "--requests", "40", "--batch", "500", "--ids", "300", "--skew", "zipf", "-w", "4")
    assert shown.returncode == 0
    assert "counted 20,000 = acknowledged 20,000" in shown.stdout


def test_open_loop_measures_freshness_beside_latency(stack: Stack, tmp_path: Path) -> None:
    api = stack.api()
    stack.indexer()
    file = tmp_path / "result.json"
    options = ["--rate", "500", "--profile", "spike", "--seconds", "3", "--ids", "50", "--json", str(file)]
    assert run("--url", api.url, *options).returncode == 0
    results = orjson.loads(file.read_bytes())["results"]
    assert 0 < results["acknowledged_hits"] <= results["counted"] <= 2700
    assert results["freshness_ms"]["total"] > 0
    assert results["freshness_missing"] == 0


def test_hits_that_nobody_indexes_are_not_called_right(stack: Stack) -> None:
    api = stack.api()
    indexer = stack.indexer()
    assert run("--url", api.url, "--requests", "10").returncode == 0
    indexer.terminate()
    shown = run("--url", api.url, "--requests", "10", "--settle-seconds", "1")
    assert shown.returncode == 1
    assert "use --no-verify" in shown.stderr


@pytest.mark.timeout(300)
def test_suite_measures_all_parts_side_by_side(tmp_path: Path, elasticsearch_server: ElasticsearchServer) -> None:
    assert elasticsearch_server.is_running  # so that the download, if any, is not in our time
    file = tmp_path / "suite.json"
    short = ["--seconds", "0.5", "--sustained-seconds", "1.5", "--open-seconds", "1", "--warm-up-seconds", "0"]
    shown = run("suite", "--rounds", "1", *short, "--stored-hits", "20000", "--ids", "50", "--json", str(file))
    assert shown.returncode == 0, shown.stderr
    assert "NOT RIGHT" not in shown.stdout
    record = orjson.loads(file.read_bytes())
    lines = {line["name"]: line for line in record["medians"]}
    assert list(lines)[:2] == ["bare uvicorn", "Track alone"]
    assert all(line["accepted"] > 0 for line in lines.values())
    assert lines["whole path"]["sustained"] > 0
    assert lines["whole path, 1 id"]["documents_per_hit"] < lines["whole path"]["documents_per_hit"]
    assert lines["reads of an id with 20,000 hits"]["read_p90_ms"] > 0
    assert set(record["stores"]) == {"elasticsearch", "redis"}
