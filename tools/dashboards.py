"""Writes the Grafana dashboards, charts/hitcounter/dashboards/*.json, from tools/dashboards.yaml.

    .venv/bin/python tools/dashboards.py [FOLDER]

This module adds what is the same for all panels in Grafana's JSON. A test fails if the files differ.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final[Json] = yaml.safe_load((ROOT / "tools/dashboards.yaml").read_text())
RUNBOOK: Final = "docs/runbook.md"
"""Target of the panel links. The chart replaces it with the configured URL."""
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24
QUANTILE: Final = "histogram_quantile({}, sum by (le) (rate({}_bucket{{<release>}}[$__rate_interval])))"


def expand(expression: str) -> str:
    """Return PromQL with the named expressions in it written out."""
    while (found := re.sub(r"<(\w+)>", lambda name: str(SOURCE["expressions"][name[1]]), expression)) != expression:
        expression = found
    return expression


def render(dashboard: Json) -> Json:
    """Return a dashboard as JSON that Grafana imports."""
    others = {"type": "dashboards", "title": "Hit counter", "tags": ["hitcounter"]}
    return {
        "id": None,
        "uid": dashboard["uid"],
        "title": dashboard["title"],
        "description": dashboard["description"],
        "tags": ["hitcounter"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [
            {**others, "asDropdown": False, "includeVars": True, "keepTime": True},
            {"type": "link", "title": "Runbook", "url": RUNBOOK, "targetBlank": True, "icon": "doc"},
        ],
        "templating": {"list": list(build_variables())},
        "annotations": {"list": build_annotations()},
        "panels": list(lay_out(dashboard["rows"])),
    }


def build_variables() -> Iterator[Json]:
    """Yield the variables at the top: data source, namespace and release."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield {**source, "refresh": 1, "hide": 0}
    yield _choice("namespace", "label_values(hitcounter_build_info, namespace)")
    yield _choice("release", 'label_values(hitcounter_build_info{namespace=~"$namespace"}, release)')


def _choice(name: str, query: str) -> Json:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": "All", "value": "$__all"},
        "hide": 0,
    }


def build_annotations() -> list[Json]:
    """Return the annotations on all graphs: scaling and new versions."""
    indexers = 'count by (release) (hitcounter_build_info{<release>,service="indexer"}'
    versions = "count by (service, version) (hitcounter_build_info{<release>}"
    return [
        _annotation("Scaling", "blue", f"({indexers}) - {indexers} offset 1m)) != 0", "indexers of {{release}}"),
        _annotation("Deploys", "purple", f"{versions}) unless {versions} offset 1m)", "{{service}} {{version}}"),
    ]


def _annotation(name: str, color: str, expression: str, title: str) -> Json:
    shown = {"name": name, "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": color}
    return {**shown, "expr": expand(expression), "titleFormat": title, "step": "60s"}


def lay_out(rows: list[Json]) -> Iterator[Json]:
    """Yield every row and its panels, from left to right and from top to bottom."""
    number, top = 1, 0
    for row in rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row["title"], "collapsed": False, "panels": [], "gridPos": place}
        number, top, left, height = number + 1, top + 1, 0, 0
        for panel in row["panels"]:
            width, height = panel.get("width", 8), 4 if panel.get("stat") else 8
            if left + width > COLUMNS:
                top, left = top + height, 0
            place = {"x": left, "y": top, "w": width, "h": height}
            yield {"id": number, "gridPos": place, **render_panel(panel)}
            number, left = number + 1, left + width
        top += height


def render_panel(panel: Json) -> Json:
    """Return a panel without its position."""
    is_stat = panel.get("stat", False)
    colors = ["red", "yellow", "green"] if panel.get("falling") else ["green", "yellow", "red"]
    limits = [None, *sorted(panel.get("limits", []))]
    steps = [{"color": color, "value": value} for color, value in zip(colors, limits, strict=False)]
    defaults = {"unit": panel["unit"], "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    queries = [(legend, expand(text)) for query in panel.get("queries", []) for legend, text in query.items()]
    if "quantiles" in panel:
        queries = [(f"p{q * 100:.0f}", expand(QUANTILE.format(q, panel["quantiles"]))) for q in (0.5, 0.9, 0.99)]
    return {
        "type": "stat" if is_stat else "timeseries",
        "title": panel["title"],
        "description": panel["description"],
        "datasource": DATASOURCE,
        "links": [
            {"title": f"Runbook: {alert}", "url": f"{RUNBOOK}#{alert.lower()}", "targetBlank": True}
            for alert in panel.get("alerts", [])
        ],
        "fieldConfig": {
            "defaults": {**defaults, **(_stat_style() if is_stat else _graph_style(panel))},
            "overrides": [],
        },
        "options": _stat_options(panel, queries[0][0]) if is_stat else _graph_options(),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                "range": not is_stat,
                "instant": is_stat,
            }
            for number, (legend, expression) in enumerate(queries)
        ],
    }


def _stat_style() -> Json:
    return {"color": {"mode": "thresholds"}}


def _stat_options(panel: Json, legend: str) -> Json:
    return {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if "limits" in panel else "none",
        "graphMode": "none",
        "textMode": "auto" if len(panel["queries"]) == 1 and "{{" not in legend else "value_and_name",
    }


def _graph_style(panel: Json) -> Json:
    is_stacked = panel.get("stacked", False)
    return {
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if is_stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if is_stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if "limits" in panel else "off"},
        },
    }


def _graph_options() -> Json:
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def main(arguments: list[str]) -> None:
    """Write the dashboards into the given folder, by default the one of the chart."""
    folder = Path(arguments[0]) if arguments else ROOT / "charts/hitcounter/dashboards"
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in SOURCE["dashboards"]:
        text = json.dumps(render(dashboard), indent=1, ensure_ascii=False)
        (folder / f"{dashboard['uid']}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
