"""Every alert fires when it should and keeps quiet when it should, as the real Prometheus computes it.

Each scenario says which alerts fire in it: those and no others. All are tried twice: with the rules as they are in
the repository, and as the chart narrows them to one release.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, ROOT, Case, find_tool, render
from tests.consistency.workspace import run

RULES = CHART / "files/rules/hitcounter.yaml"
Course = Callable[[int], float]
"""What a gauge shows (nan: it is not shown), or a counter grows by, in each minute; the last minute is 0."""


def since(minute: int, then: float, before: float = 0.0) -> Course:
    """One value from a minute on, another before."""
    return lambda now: then if now >= minute else before


def always(value: float) -> Course:
    return lambda _: value


CALM: Mapping[str, Course | None] = {
    "accepted": always(60_000),
    "refused": always(0),
    "unable": always(0),
    "settled": always(60_000),
    "fresh": always(60_000),
    "late": always(0),
    "backlog": always(500),
    "wanted_by_the_api": always(2),
    "oldest_age": always(0.5),
    "dead": always(3),
    "difference": always(0),
    "failing_retention": always(0),
    "memory": always(100e6),
    "capacity": always(1e9),
    "may_evict": always(0),
    "evicted": always(0),
    "append_only": always(1),
    "reads": always(600),
    "stale_reads": always(0),
    "build": always(1),
    "internal_errors": always(0),
    "refused_connections": always(0),
    "unavailable_apis": always(0),
    "wanted_indexers": always(4),
    "most_indexers": always(10),
    "blind_scaler": always(0),
    "turns": always(12),
    "operator_ready": always(1),
    "queue_ready": always(1),
    "limited": always(0),
}


class Situation:
    """An installation over some hours, looked at in their end.

    Args:
        hours: how many. What a range of a rule reaches beyond them counts as not there.
        others: series of somebody else's.
        changes: what is not as in the calm; None: it is not shown at all.
    """

    def __init__(self, *, hours: int = 2, others: Mapping[str, Course] | None = None, **changes: Course | None) -> None:
        assert changes.keys() <= CALM.keys()
        self.minutes = hours * 60
        self._others = others or {}
        self._courses = {**CALM, **changes}

    def series(self) -> Iterator[tuple[str, list[float]]]:
        """Return every series with its samples, one a minute."""
        course = self._courses
        ours = f'namespace="{NAMESPACE}",release="{RELEASE}"'
        scaler = f'namespace="{NAMESPACE}",horizontalpodautoscaler="keda-hpa-{RELEASE}-hitcounter-indexer"'
        api = f'namespace="{NAMESPACE}",deployment="{RELEASE}-hitcounter-api"'
        counters = {
            f'hitcounter_accepted_hits_total{{{ours},pod="a"}}': course["accepted"],
            f'hitcounter_refused_hits_total{{{ours},pod="a",reason="stream",outcome="refused"}}': course["refused"],
            f'hitcounter_refused_hits_total{{{ours},pod="a",reason="durability",outcome="refused"}}': course["unable"],
            f'hitcounter_settled_hits_total{{{ours},pod="i",result="indexed"}}': course["settled"],
            f'hitcounter_reads_total{{{ours},pod="a",result="fresh"}}': course["reads"],
            f'hitcounter_reads_total{{{ours},pod="a",result="stale"}}': course["stale_reads"],
            f'hitcounter_internal_errors_total{{{ours},pod="a"}}': course["internal_errors"],
            f'hitcounter_refused_connections_total{{{ours},pod="a"}}': course["refused_connections"],
            f'hitcounter_operator_turns_total{{{ours},pod="o",result="done"}}': course["turns"],
        }
        gauges = {
            f'hitcounter_ledger_difference_hits{{{ours},pod="i"}}': course["difference"],
            f'hitcounter_retention_failing{{{ours},pod="i"}}': course["failing_retention"],
            f'hitcounter_build_info{{{ours},pod="a",service="api"}}': course["build"],
            f"kube_deployment_status_replicas_unavailable{{{api}}}": course["unavailable_apis"],
            f"kube_horizontalpodautoscaler_status_desired_replicas{{{scaler}}}": course["wanted_indexers"],
            f"kube_horizontalpodautoscaler_spec_max_replicas{{{scaler}}}": course["most_indexers"],
            f'kube_horizontalpodautoscaler_status_condition{{{scaler},condition="ScalingActive",status="false"}}': (
                course["blind_scaler"]
            ),
        }
        if course["turns"] is not None:
            operator = f'{ours},pod="o"'
            gauges |= {
                f"hitcounter_operator_desired_replicas{{{operator}}}": always(4),
                f'hitcounter_operator_condition{{{operator},type="Ready"}}': course["operator_ready"],
                f'hitcounter_operator_condition{{{operator},type="QueueReady"}}': course["queue_ready"],
                f'hitcounter_operator_condition{{{operator},type="IndexReady"}}': always(1),
                f'hitcounter_operator_condition{{{operator},type="ScalingLimited"}}': course["limited"],
            }
        for pod in ("a", "b"):  # what every API shows of the one queue
            counters |= {
                f'hitcounter_freshness_hits_total{{{ours},pod="{pod}",result="fresh"}}': course["fresh"],
                f'hitcounter_freshness_hits_total{{{ours},pod="{pod}",result="late"}}': course["late"],
                f'hitcounter_redis_evicted_keys_total{{{ours},pod="{pod}"}}': course["evicted"],
            }
            gauges |= {
                f'hitcounter_backlog_hits{{{ours},pod="{pod}"}}': course["backlog"],
                f'hitcounter_indexers_wanted{{{ours},pod="{pod}"}}': course["wanted_by_the_api"],
                f'hitcounter_oldest_age_seconds{{{ours},pod="{pod}"}}': course["oldest_age"],
                f'hitcounter_ledger_hits{{{ours},pod="{pod}",state="dead"}}': course["dead"],
                f'hitcounter_redis_memory_bytes{{{ours},pod="{pod}"}}': course["memory"],
                f'hitcounter_redis_capacity_bytes{{{ours},pod="{pod}"}}': course["capacity"],
                f'hitcounter_redis_may_evict{{{ours},pod="{pod}"}}': course["may_evict"],
                f'hitcounter_redis_aof_enabled{{{ours},pod="{pod}"}}': course["append_only"],
            }
        minutes = range(-self.minutes, 1)
        for name, grows in counters.items():
            if grows is not None:
                yield name, list(accumulate(map(grows, minutes), initial=0))[:-1]
        for name, shows in (gauges | dict(self._others)).items():
            if shows is not None:
                yield name, [shows(minute) for minute in minutes]


NOTHING: dict[str, Any] = dict.fromkeys(CALM.keys() - {"wanted_indexers", "most_indexers", "blind_scaler"})
AWAY = Situation(
    backlog=None, oldest_age=None, dead=None, memory=None, capacity=None, may_evict=None, evicted=None, append_only=None
)

SCENARIOS: Mapping[str, tuple[Situation, set[str]]] = {
    "calm": (Situation(), set()),
    "idle, without an indexer": (
        Situation(
            accepted=always(0), settled=None, difference=None, fresh=always(0), reads=always(0), backlog=always(0)
        ),
        set(),
    ),
    # ── acceptance ──
    "5 % refused for an hour": (Situation(refused=since(-60, 3000)), {"AcceptBudgetFastBurn", "AcceptBudgetSlowBurn"}),
    "5 % refused until half an hour ago": (Situation(refused=lambda now: 3000 * (now < -31)), set()),
    "5 % refused for a minute": (Situation(refused=since(-1, 3000)), set()),
    "1 % refused for hours": (Situation(refused=always(600)), {"AcceptBudgetSlowBurn"}),
    "half a percent refused for hours": (Situation(refused=always(300)), set()),
    "durability asked for that is not to be had": (Situation(unable=always(9000)), set()),
    # ── freshness ──
    "a fifth late for an hour": (
        Situation(hours=7, fresh=since(-60, 48_000, 60_000), late=since(-60, 12_000)),
        {"FreshnessBudgetFastBurn"},
    ),
    "a tenth late for hours": (
        Situation(fresh=always(54_000), late=always(6000)),
        {"FreshnessBudgetSlowBurn"},
    ),
    "all late until an hour ago": (
        Situation(fresh=lambda now: 60_000 * (now > -61), late=lambda now: 60_000 * (now <= -61)),
        set(),
    ),
    "one in twenty late": (Situation(fresh=always(57_000), late=always(3000)), set()),
    # ── reads ──
    "a tenth of reads stale": (Situation(reads=always(540), stale_reads=since(-12, 60)), {"ReadsNotFresh"}),
    "a tenth of reads stale for three minutes": (Situation(reads=always(540), stale_reads=since(-3, 60)), set()),
    "few reads stale": (Situation(reads=always(580), stale_reads=always(20)), set()),
    # ── causes ──
    "expired indices that nobody can delete": (
        Situation(hours=4, failing_retention=since(-185, 1)),
        {"RetentionFails"},
    ),
    "expired indices that nobody could delete for two hours": (
        Situation(hours=4, failing_retention=since(-120, 1)),
        set(),
    ),
    "hits missing": (Situation(difference=since(-4, -3)), {"LedgerDiffers"}),
    "hits missing for a moment": (Situation(difference=since(-1, 3)), set()),
    "indexers that settle nothing": (Situation(settled=since(-6, 0, 60_000)), {"IndexingStandsStill"}),
    "no indexer there": (Situation(settled=None, difference=None), {"IndexingStandsStill"}),
    "no indexer there for two minutes": (Situation(settled=since(-2, 0, 60_000)), set()),
    "an old entry": (Situation(oldest_age=since(-7, 70)), {"OldestEntryStuck"}),
    "an old entry for four minutes": (Situation(oldest_age=since(-4, 70)), set()),
    "an entry of 59 seconds": (Situation(oldest_age=always(59)), set()),
    "more than is settled": (
        Situation(backlog=since(-20, 60_000), settled=since(-20, 54_000, 60_000)),
        {"BacklogWillNotDrain"},
    ),
    "a backlog that drains": (Situation(backlog=since(-20, 60_000), settled=since(-20, 66_000, 60_000)), set()),
    "a small backlog that grows": (Situation(backlog=always(20_000), settled=always(59_000)), set()),
    "a dead letter": (Situation(dead=since(-5, 4, 3)), {"DeadLetters"}),
    "a dead letter of an hour ago": (Situation(dead=since(-60, 4, 3)), set()),
    "a dead letter sent again": (Situation(dead=since(-5, 2, 3)), set()),
    "a Redis that is nearly full": (Situation(memory=since(-4, 950e6, 100e6)), {"RedisNearlyFull"}),
    "a Redis that fills": (Situation(memory=lambda now: 600e6 + 20e6 * max(0, now + 15)), {"RedisNearlyFull"}),
    "a Redis that is more than half full": (Situation(memory=always(600e6)), set()),
    "a Redis that begins to fill": (Situation(memory=lambda now: 100e6 + 20e6 * max(0, now + 15)), set()),
    "a Redis that may evict": (Situation(may_evict=since(-3, 1)), {"RedisMayEvict"}),
    "a Redis that may evict for a moment": (Situation(may_evict=lambda now: float(now == -5)), set()),
    "a Redis that evicts": (Situation(evicted=lambda now: 5.0 * (now == -10)), {"RedisEvicted"}),
    "a Redis that evicted an hour ago": (Situation(evicted=lambda now: 5.0 * (now == -60)), set()),
    "a Redis without a file": (Situation(append_only=since(-7, 0, 1)), {"RedisNotPersistent"}),
    "a Redis without a file for four minutes": (Situation(append_only=since(-4, 0, 1)), set()),
    "a Redis that tells nothing of itself": (Situation(may_evict=always(0), evicted=None, append_only=None), set()),
    "Redis away": (AWAY, {"Blind"}),
    "nothing scraped": (
        Situation(**NOTHING),
        {"Blind"},
    ),
    "an API that is not available": (Situation(unavailable_apis=since(-12, 1)), {"ApiPodsDown"}),
    "an API that is being replaced": (Situation(unavailable_apis=since(-9, 1)), set()),
    "another deployment that is not available": (
        Situation(
            others={
                f'kube_deployment_status_replicas_unavailable{{namespace="{NAMESPACE}",deployment="shop"}}': always(1),
                'kube_deployment_status_replicas_unavailable{namespace="x",deployment="their-api"}': always(1),
            }
        ),
        set(),
    ),
    "connections refused": (Situation(refused_connections=since(-10, 60)), {"ConnectionsRefused"}),
    "connections refused for a moment": (Situation(refused_connections=lambda now: 60.0 * (now == -3)), set()),
    "a bug": (Situation(internal_errors=lambda now: float(now == -10)), {"InternalErrors"}),
    "a bug of an hour ago": (Situation(internal_errors=lambda now: float(now == -60)), set()),
    # ── scaling ──
    "as many indexers as there may be, and too few": (
        Situation(wanted_indexers=always(10), oldest_age=always(40)),
        {"ScalingAtMax"},
    ),
    "as many indexers as there may be, and enough": (Situation(wanted_indexers=always(10)), set()),
    "more on their way": (Situation(wanted_indexers=always(9), oldest_age=always(40)), set()),
    "a scaler that cannot see": (Situation(blind_scaler=since(-12, 1)), {"ScalingBlind"}),
    "a scaler at rest": (Situation(blind_scaler=always(1), backlog=always(0)), set()),
    "a number of indexers that nobody knows": (Situation(wanted_by_the_api=None), {"ScalingUnknown"}),
    "a number of indexers that nobody knows for nine minutes": (
        Situation(wanted_by_the_api=lambda now: 2.0 if now < -9 else nan),
        set(),
    ),
    "no operator": (Situation(turns=None), set()),
    "as many indexers as the operator may have, and too few": (
        Situation(limited=always(1), oldest_age=always(40)),
        {"ScalingAtMax"},
    ),
    "as many indexers as the operator may have, and enough": (Situation(limited=always(1)), set()),
    "an operator that cannot scale": (Situation(operator_ready=since(-12, 0, 1)), {"ScalingBlind"}),
    "an operator that cannot scale at rest": (Situation(operator_ready=always(0), backlog=always(0)), set()),
    "an operator that cannot reach Redis": (Situation(operator_ready=always(0), queue_ready=always(0)), set()),
    "an operator that stands still": (Situation(turns=since(-12, 0, 12)), {"OperatorStandsStill"}),
    "an operator that stands still for five minutes": (Situation(turns=since(-5, 0, 12)), set()),
    # ── not ours ──
    "a neighbour's backlog": (
        Situation(
            others={
                'hitcounter_backlog_hits{namespace="other",release="hc"}': always(500),
                'hitcounter_indexers_wanted{namespace="other",release="hc"}': always(1),
                'hitcounter_settled_hits_total{namespace="other",release="hc"}': lambda now: 1e6 + now,
            }
        ),
        set(),
    ),
}


def narrowed_rules() -> dict[str, Any]:
    """Return the rules as the chart makes them."""
    (rule,) = render(Case("", {"monitoring": {"rules": {"enabled": True}}})).all("PrometheusRule")
    spec: dict[str, Any] = rule["spec"]
    return spec


def test_chart_narrows_every_rule_to_its_release() -> None:
    narrowed = {f'namespace="{NAMESPACE}"', f'deployment="{RELEASE}-hitcounter-api"', f'release="{RELEASE}"'}
    assert all(selector in str(narrowed_rules()) for selector in narrowed)
    assert '=~".*' not in str(narrowed_rules())


def test_alerts_know_the_horizontalpodautoscaler_that_keda_took_over() -> None:
    keda = {"mode": "keda", "keda": {"source": "status", "takeOverHpa": "old"}}
    values = {"monitoring": {"rules": {"enabled": True}}, "autoscaling": keda}
    rendered = render(Case("", values))
    (rule,) = rendered.all("PrometheusRule")
    scaled = rendered.one("ScaledObject", "indexer")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"]
    selectors = re.findall(r'horizontalpodautoscaler=~"([^"]+)"', str(rule["spec"]))
    assert selectors
    assert all(re.fullmatch(selector, scaled) for selector in selectors)


def all_alerts() -> list[dict[str, Any]]:
    """Return every alert in the repository."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.fixture(scope="module", params=["as they stand", "narrowed"])
def rules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the rules."""
    if request.param == "as they stand":
        return RULES
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump(narrowed_rules()))
    return file


@pytest.mark.parametrize("name", SCENARIOS)
def test_exactly_these_alerts_fire(name: str, rules: Path, tmp_path: Path) -> None:
    situation, expected = SCENARIOS[name]
    samples = [{"labels": f'{{alertname="Hitcounter{alert}"}}', "value": 1} for alert in sorted(expected)]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": " ".join("stale" if isnan(value) else f"{value:g}" for value in values)}
                    for name, values in situation.series()
                ],
                "promql_expr_test": [{"expr": firing, "eval_time": f"{situation.minutes}m", "exp_samples": samples}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    answer = subprocess.run([find_tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_fires_in_one_scenario_and_keeps_quiet_in_another() -> None:
    alerts = {rule["alert"].removeprefix("Hitcounter") for rule in all_alerts()}
    assert alerts == set().union(*(firing for _, firing in SCENARIOS.values()))


def test_plain_rules_are_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/chart.py", "rules", tmp_path / "rules.yaml")
    plain = tmp_path / "rules.yaml"
    assert plain.read_text() == (ROOT / "k8s/addons/prometheus-rules.yaml").read_text(), "run: tools/chart.py rules"
    assert yaml.safe_load(plain.read_text())["spec"] == narrowed_rules()


def test_addresses_of_runbook_and_dashboards_are_the_values() -> None:
    monitoring = {
        "runbookUrl": "https://wiki.example.org/hits",
        "rules": {"enabled": True, "grafanaUrl": "https://grafana.example.org/"},
        "dashboards": {"enabled": True},
    }
    rendering = render(Case("", {"monitoring": monitoring}))
    (rule,) = rendering.all("PrometheusRule")
    for alert in [rule for group in rule["spec"]["groups"] for rule in group["rules"] if "alert" in rule]:
        notes = alert["annotations"]
        assert notes["runbook_url"] == f"https://wiki.example.org/hits#{alert['alert'].lower()}"
        assert notes["dashboard_url"].startswith("https://grafana.example.org/d/hitcounter-")
    (dashboards,) = [item for item in rendering.all("ConfigMap") if item["metadata"]["name"].endswith("-dashboards")]
    assert "docs/runbook.md" not in str(dashboards["data"])


def test_dashboards_come_whole_and_fit_into_a_config_map() -> None:
    rendering = render(Case("", {"monitoring": {"dashboards": {"enabled": True}}}))
    (item,) = [item for item in rendering.all("ConfigMap") if item["metadata"]["name"].endswith("-dashboards")]
    assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
    written = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert item["data"] == written
    assert sum(map(len, written.values())) < 900_000


def test_series_of_a_release_are_known_by_its_name() -> None:
    rendering = render(Case("", {"monitoring": {"podMonitors": {"enabled": True}}}))
    for monitor in rendering.all("PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["relabelings"] == [{"targetLabel": "release", "replacement": RELEASE}]


def test_rules_are_what_prometheus_understands(rules: Path) -> None:
    answer = subprocess.run(
        [find_tool("promtool"), "check", "rules", rules], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
