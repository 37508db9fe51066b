"""What operators look at fits together: the metrics that the code declares, rules, dashboards, scaling, the runbook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import find_tool
from tests.consistency.workspace import ROOT, run

RULES = yaml.safe_load((ROOT / "charts/hitcounter/files/rules/hitcounter.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
RECORDS = {rule["record"]: rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
DASHBOARDS = {
    path.name: json.loads(path.read_text()) for path in sorted((ROOT / "charts/hitcounter/dashboards").glob("*.json"))
}
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
HEADINGS = re.findall(r"^## (Hitcounter\w+)$", RUNBOOK, re.MULTILINE)
"""The entries for alerts; those for situations without one have a heading in words."""
SCALED_OBJECT = (ROOT / "charts/hitcounter/templates/_autoscaling.tpl").read_text()

OF_THE_OPERATOR = re.compile(r"hitcounter_operator_\w+")
"""Shown where there is an operator; dashboards do without it where there is none."""
NAME = re.compile(r"(?<![\w:.-])hitcounter_[a-z0-9_]+(?![\w:-])")


def declared_metrics() -> dict[str, str]:
    """Return name and type of every metric in docs/metrics.md, which a test keeps equal to the code's declarations."""
    table = (ROOT / "docs/metrics.md").read_text()
    return dict(re.findall(r"^\| `(hitcounter_\w+)` \| (\w+) \|", table, re.MULTILINE))


def series_names() -> set[str]:
    """Return the names by which Prometheus knows these metrics."""
    names = set()
    for name, kind in declared_metrics().items():
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def names_in(expression: str) -> set[str]:
    """Return the names of our metrics in a text."""
    return set(NAME.findall(expression))


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the panels of a dashboard that show something."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    """Return everything that a dashboard asks Prometheus."""
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rule", [*ALERTS.values(), *RECORDS.values()], ids=lambda rule: rule.get("alert", "record"))
def test_rule_uses_only_what_is_declared(rule: dict[str, Any]) -> None:
    assert names_in(rule["expr"]) <= series_names()
    assert set(re.findall(r"hitcounter:\w+:\w+", rule["expr"])) <= RECORDS.keys()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_uses_only_what_is_declared(name: str) -> None:
    used = names_in(" ".join(expressions(DASHBOARDS[name])))
    used |= names_in(" ".join(json.dumps(variable["query"]) for variable in DASHBOARDS[name]["templating"]["list"]))
    assert {found for found in used if not OF_THE_OPERATOR.fullmatch(found)} <= series_names()


def test_scaling_uses_only_what_is_declared() -> None:
    assert names_in(SCALED_OBJECT)
    assert names_in(SCALED_OBJECT) <= series_names()


@pytest.mark.parametrize("document", ["runbook.md", "production.md", "architecture.md", "configuration.md"])
def test_document_names_only_metrics_that_are_declared(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    told = {
        name
        for name in re.findall(r"`(hitcounter_[a-z_]+)[`{]", text)
        if not name.startswith(("hitcounter_api", "hitcounter_indexer", "hitcounter_operator"))
    }
    assert told <= series_names() | declared_metrics().keys()


def test_every_metric_is_on_a_dashboard() -> None:
    shown = names_in(" ".join(expression for dashboard in DASHBOARDS.values() for expression in expressions(dashboard)))
    unseen = {
        name
        for name, kind in declared_metrics().items()
        if not {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"} & shown
    }
    assert unseen == {"hitcounter_as_of_timestamp_seconds", "hitcounter_entries_in_flight"}, (
        "the first is shown as a lag, the second by hitcounter_backlog_entries"
    )


def test_advice_names_only_alerts_that_exist() -> None:
    told = set(re.findall(r"runbook, (\w+)", (ROOT / "docs/metrics.md").read_text()))
    assert told
    assert told <= ALERTS.keys()


def test_every_recorded_series_is_used() -> None:
    used = {name for rule in ALERTS.values() for name in re.findall(r"hitcounter:\w+:\w+", rule["expr"])}
    assert used == RECORDS.keys()


NARROWED = {
    "hitcounter": 'release=~".*"',
    "kube_horizontalpodautoscaler": 'horizontalpodautoscaler=~".*-indexer"',
    "kube_deployment": 'deployment=~".*-api"',
}
"""What the chart replaces in the selectors, by the beginning of the metric's name."""


def test_chart_can_narrow_every_selector_of_the_rules() -> None:
    for rule in [*ALERTS.values(), *RECORDS.values()]:
        for name, labels in re.findall(r"(hitcounter[_:][\w:]+|kube_\w+)(\{[^}]*\})?", rule["expr"]):
            (token,) = [token for prefix, token in NARROWED.items() if name.startswith(prefix)]
            assert token in labels, name


# ── alerts and the runbook ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_alert_has_its_heading_in_the_order_of_the_rules_and_there_is_no_other() -> None:
    assert sorted(HEADINGS) == sorted(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_says_how_bad_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert alert.startswith("Hitcounter")
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    assert f"{rule['annotations']['dashboard_url'].removeprefix('/d/')}.json" in DASHBOARDS


def test_runbook_links_lead_to_headings() -> None:
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {heading.lower() for heading in HEADINGS}


def test_panels_link_to_every_alert_of_the_runbook_and_to_no_other() -> None:
    urls = [link["url"] for dashboard in DASHBOARDS.values() for panel in panels(dashboard) for link in panel["links"]]
    assert {url.rpartition("#")[2] for url in urls} == {alert.lower() for alert in ALERTS}
    assert {url.rpartition("#")[0] for url in urls} == {"docs/runbook.md"}


# ── dashboards ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dashboards_are_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/dashboards.py", tmp_path)
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert written == DASHBOARDS, "run: make generate"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_is_one_that_grafana_takes_and_that_belongs_to_nobody(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["id"] is None
    assert f"{dashboard['uid']}.json" == name
    assert dashboard["schemaVersion"] >= 39
    assert "__inputs" not in dashboard
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    sources = {match["uid"] for match in walk(dashboard) if match.get("type") == "prometheus"}
    assert sources == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]][:3] == [
        "datasource",
        "namespace",
        "release",
    ]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panel_has_title_unit_description_and_a_legend_for_each_line(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        assert panel["title"], panel
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in ("short", "s", "bytes", "percentunit"), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_leave_no_holes_at_the_left(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert {y for _, y in taken} == set(range(max(y for _, y in taken) + 1))


def test_panels_are_about_what_was_chosen_at_the_top() -> None:
    for dashboard in DASHBOARDS.values():
        for expression in expressions(dashboard):
            for name, labels in re.findall(r"(hitcounter_\w+|kube_\w+|process_\w+)(\{[^}]*\})?", expression):
                assert 'namespace=~"$namespace"' in labels, name
                assert name.startswith("kube_") or 'release=~"$release"' in labels, name


def test_everything_that_dashboards_ask_is_promql(tmp_path: Path) -> None:
    asked = [fill_in(expression) for dashboard in DASHBOARDS.values() for expression in expressions(dashboard)]
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    file = tmp_path / "asked.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    answer = subprocess.run(
        [find_tool("promtool"), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def fill_in(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    for name, value in {
        "$__rate_interval": "1m",
        "$namespace": ".*",
        "$release": ".*",
    }.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Return every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)
