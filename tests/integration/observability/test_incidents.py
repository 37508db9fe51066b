"""A real Prometheus over a real installation: dashboards show data, and alerts fire in staged incidents only.

The rules are those of the chart, with shorter durations (fast_rules.py). Those about scaling need a Kubernetes:
tests/chart/test_rules.py tries them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter.stream import Keys
from hitcounter_devstack.part import Part

from tests.consistency.test_observability import ALERTS, DASHBOARDS, OF_THE_OPERATOR, fill_in, names_in, panels
from tests.integration.observability.fast_rules import shorten_expression, shorten_rules
from tests.integration.observability.installation import RULES, Installation, run_installation
from tests.support.stack import wait_until

CALM_SECONDS = 15
SHOWN_BY_PROMTOOL_ALONE = {
    "HitcounterApiPodsDown",
    "HitcounterConnectionsRefused",
    "HitcounterInternalErrors",
    "HitcounterOperatorStandsStill",
    "HitcounterRetentionFails",
    "HitcounterScalingAtMax",
    "HitcounterScalingBlind",
    "HitcounterScalingUnknown",
}
"""Alerts about Kubernetes, about bugs, and about what takes hours: tests/chart/test_rules.py."""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation whose alerts have settled down after its start."""
    # Not pytest's own folder: it is closed to the account that root's Elasticsearch runs as.
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        rules = shorten_rules(RULES, folder / "rules.yaml")
        with run_installation(folder, rules, interval_seconds=1.0) as running:
            wait_until(lambda: running.values("hitcounter_freshness_seconds_count > 5"), bool)
            running.wait_calm()
            yield running


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def without_indexer(installation: Installation) -> Iterator[None]:
    """Stop the only indexer while the block runs."""
    installation.indexer.stop()
    try:
        yield
    finally:
        installation.indexer.start().wait_ready()


@contextlib.contextmanager
def frozen(server: Part) -> Iterator[None]:
    """Let a server answer nobody while the block runs."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextlib.contextmanager
def redis_limit(installation: Installation, maxmemory_bytes: int) -> Iterator[None]:
    """Let Redis use no more than that while the block runs."""
    ask_redis(installation, "CONFIG", "SET", "maxmemory", str(maxmemory_bytes))
    try:
        yield
    finally:
        ask_redis(installation, "CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def redis_setting(installation: Installation, name: str, value: str, usual: str) -> Iterator[None]:
    """Give Redis a setting under which it may lose hits while the block runs."""
    ask_redis(installation, "CONFIG", "SET", name, value)
    try:
        yield
    finally:
        ask_redis(installation, "CONFIG", "SET", name, usual)


def book(installation: Installation, hits: int) -> None:
    """Book accepted hits, with or without an entry that holds them."""
    ask_redis(installation, "HINCRBY", Keys(installation.stack.name).ledger, "accepted", str(hits))


def add_entry_that_nobody_can_decode(installation: Installation) -> None:
    """Do what accept does, but with a payload that is none."""
    ask_redis(installation, "XADD", Keys(installation.stack.name).stream, "*", "batch", "poison", "hits", "1")
    book(installation, 1)


def ask_redis(installation: Installation, *words: str) -> None:
    """Send one command of words without spaces."""
    with socket.create_connection(("127.0.0.1", installation.redis.port), timeout=5) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        assert not connection.recv(4096).startswith(b"-")


# ── what must be seen ────────────────────────────────────────────────────────────────────────────────────────────────


def is_about_the_operator(expression: str) -> bool:
    """Say whether only the operator has data for it. It needs a Kubernetes, which is not here."""
    names = names_in(expression)
    return bool(names) and all(OF_THE_OPERATOR.fullmatch(name) for name in names)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_every_panel_returns_data(installation: Installation, name: str) -> None:
    empty = [
        f"{panel['title']}: {target['legendFormat']}: {target['expr']}"
        for panel in panels(DASHBOARDS[name])
        for target in panel["targets"]
        if not is_about_the_operator(target["expr"])
        and not installation.values(fill_in(target["expr"].replace("$__rate_interval", "20s")))
    ]
    assert empty == []


def test_nothing_fires_in_calm_minutes_under_load(installation: Installation) -> None:
    installation.wait_calm()
    seen: set[str] = set()
    deadline = time.monotonic() + CALM_SECONDS
    while time.monotonic() < deadline:
        seen |= installation.firing()
        time.sleep(0.5)  # a calm is a length of time, and not a condition to wait for
    assert seen == set()
    assert installation.values("sum(rate(hitcounter_settled_hits_total[10s]))")[0] > 50


def test_every_alert_fires_in_its_incident_and_all_resolve_when_it_is_over(installation: Installation) -> None:
    fired: set[str] = set()

    def expect(*alerts: str) -> None:
        installation.wait_firing(*alerts)
        fired.update(alerts)

    with without_indexer(installation):
        expect("HitcounterIndexingStandsStill")
        book(installation, 7)  # somebody writes into the ledger, and a new indexer looks
    expect("HitcounterLedgerDiffers")
    book(installation, -7)

    add_entry_that_nobody_can_decode(installation)
    expect("HitcounterDeadLetters")

    used = max(installation.values("hitcounter_redis_memory_bytes"))
    with redis_limit(installation, int(used * 1.05)):
        expect("HitcounterRedisNearlyFull")
    with redis_limit(installation, int(used * 0.5)):
        expect("HitcounterAcceptBudgetFastBurn", "HitcounterAcceptBudgetSlowBurn")

    with redis_setting(installation, "maxmemory-policy", "volatile-lru", "noeviction"):
        expect("HitcounterRedisMayEvict")
        with redis_limit(installation, int(used * 0.5)):  # of what expires there are only sequences of producers
            expect("HitcounterRedisEvicted")
    with redis_setting(installation, "appendonly", "no", "yes"):
        expect("HitcounterRedisNotPersistent")

    with frozen(installation.redis):
        expect("HitcounterBlind")

    with frozen(installation.elasticsearch):
        expect(
            "HitcounterReadsNotFresh",
            "HitcounterOldestEntryStuck",
            "HitcounterBacklogWillNotDrain",
            "HitcounterFreshnessBudgetFastBurn",
            "HitcounterFreshnessBudgetSlowBurn",
        )

    installation.wait_calm()
    assert ALERTS.keys() - fired == SHOWN_BY_PROMTOOL_ALONE


def test_shortened_rules_differ_from_those_of_the_chart_in_durations_alone() -> None:
    assert shorten_expression('rate(x{a=~".*"}[5m]) > 14.4 * 0.001') == 'rate(x{a=~".*"}[8000ms]) > 14.4 * 0.001'
    for rule in ALERTS.values():
        shortened = shorten_expression(rule["expr"])
        assert len(json.dumps(shortened).split()) == len(json.dumps(rule["expr"]).split())
