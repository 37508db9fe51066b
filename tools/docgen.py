"""Writes docs/configuration.md and docs/metrics.md from the settings and the metrics that the code declares.

    .venv/bin/python tools/docgen.py [FOLDER]

It stands beside the house like the other tools, and is the one of them that imports every part: what a variable or a
metric means is written once, where it is declared, and a test fails while the documents say anything else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from hitcounter.metrics import ADVICE, QueueMetrics, create_registry
from hitcounter.settings import Section, SettingsBase, variable_name
from hitcounter_api.metrics import create_metrics as create_api_metrics
from hitcounter_api.settings import ApiSettings
from hitcounter_indexer.metrics import create_metrics as create_indexer_metrics
from hitcounter_indexer.settings import IndexerSettings
from hitcounter_operator.metrics import create_metrics as create_operator_metrics
from hitcounter_operator.settings import OperatorSettings
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from pydantic import SecretStr

_K = TypeVar("_K")
_V = TypeVar("_V")

DOCS: Final = Path(__file__).parents[1] / "docs"

SETTINGS: Final[Mapping[str, type[SettingsBase]]] = {
    "api": ApiSettings,
    "indexer": IndexerSettings,
    "operator": OperatorSettings,
}

METRICS: Final[Mapping[str, Iterable[Callable[[CollectorRegistry], object]]]] = {
    "api": (create_api_metrics, QueueMetrics),
    "indexer": (create_indexer_metrics,),
    "operator": (create_operator_metrics,),
}
"""What each service declares in its registry, beyond what `create_registry` puts into every one."""

GENERATED: Final = "<!-- Written by tools/docgen.py (`make generate`). Edit the declarations in the code instead. -->"

CONFIGURATION_HEAD: Final = f"""\
# Configuration

{GENERATED}

Every setting is an environment variable, read once when a process starts. A variable that is not set, or empty, takes
its default. A wrong value, or an unknown name in a section that the process reads, stops it with exit status 2 and one
line for each mistake. With the defaults everything runs on one machine.

Everything is checked before the first connection: addresses, passwords, TLS files, and whether they fit together. No
message contains a password or an address. A newline at the end of a value is taken off, since `echo` leaves one in a
Secret or a file. Values are UTF-8; so are the user names and passwords that reach the stores.

The last part of a name tells the unit: `_seconds`, `_ms`, `_bytes`. Sections that a process does not read may be set
all the same: one set of variables can serve all parts.
"""

METRICS_HEAD: Final = f"""\
# Metrics

{GENERATED}

Each process shows its metrics in the Prometheus text form at `/metrics` of its management port. The usual `process_*`
and `python_info` series of the Prometheus client are there as well. Labels have few and fixed values: never an id.

The numbers of the ledger and the queue are gauges and the same in every process that shows them: take `max`, never
`sum`, and no `rate`, since they may step back where Redis lost its last second. Rates come from the counters. What is
not known is not shown: while Redis is away, the queue's gauges are absent, and no value is ever not-a-number.

They are counted once a batch, not once a hit: [what that costs](lab.md#what-watching-costs).

What Prometheus makes of them stands in [the rules](../charts/hitcounter/files/rules/hitcounter.yaml), and what to do
when one of those fires in the [runbook](runbook.md).
"""


@dataclass(frozen=True)
class Setting:
    """One variable, and the services that read it with these same properties."""

    section: str
    variable: str
    value: str
    default: str
    text: str


@dataclass(frozen=True)
class Series:
    """One metric, as Prometheus calls it."""

    name: str
    kind: str
    unit: str
    labels: str
    meaning: str
    advice: str


def main(arguments: list[str]) -> None:
    """Write both documents into the folder given, docs/ unless another is."""
    folder = Path(arguments[0]) if arguments else DOCS
    (folder / "configuration.md").write_text(build_configuration())
    (folder / "metrics.md").write_text(build_metrics())


# ── configuration ───────────────────────────────────────────────────────────────────────────────────────────────────


def build_configuration() -> str:
    """Return docs/configuration.md."""
    readers = _group((setting, service) for service, kind in SETTINGS.items() for setting in read_settings(kind))
    parts = [CONFIGURATION_HEAD]
    for section, introduction in _sections().items():
        rows = [
            [f"`{setting.variable}`", setting.value, setting.default, ", ".join(services), setting.text]
            for setting, services in readers.items()
            if setting.section == section
        ]
        parts.append(f"## {section}\n\n{introduction}\n")
        parts.append(_table(["variable", "value", "default", "read by", "meaning"], rows))
    return "\n".join(parts)


def read_settings(kind: type[SettingsBase]) -> Iterator[Setting]:
    """Return every variable that a settings class reads, in the order of its declarations.

    Raises:
        ValueError: one of them does not say what it means.
    """
    for section_name, section in _defaults(kind).items():
        document = type(section).model_json_schema()
        for name, own_schema in document["properties"].items():
            schema = {**own_schema, **document.get("$defs", {}).get(own_schema.get("$ref", "").rpartition("/")[2], {})}
            variable = variable_name(section_name, name)
            if "description" not in schema:
                raise ValueError(f"{variable} has no description")
            default = _describe_default(getattr(section, name))
            yield Setting(section_name, variable, _describe_value(schema), default, own_schema["description"])


def _sections() -> dict[str, str]:
    """Return what each section says of itself; where services have their own variants, what these have in common."""
    variants = _group((name, type(section)) for kind in SETTINGS.values() for name, section in _defaults(kind).items())
    return {name: (_common_base(kinds).__doc__ or "").strip() for name, kinds in variants.items()}


def _common_base(kinds: list[type[Section]]) -> type:
    return next(base for base in kinds[0].__mro__ if all(issubclass(kind, base) for kind in kinds))


def _defaults(kind: type[SettingsBase]) -> dict[str, Section]:
    return {name: field.get_default(call_default_factory=True) for name, field in kind.model_fields.items()}


def _describe_value(schema: Mapping[str, object]) -> str:
    variants = schema.get("anyOf")
    if isinstance(variants, list):
        schema = next(variant for variant in variants if variant["type"] != "null")
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    if "writeOnly" in schema:
        return "text, secret"
    words = schema.get("enum")
    if isinstance(words, list):
        return ", ".join(f"`{word}`" for word in words)
    pattern = str(schema.get("pattern", ""))
    if choice := re.fullmatch(r"\^\(([a-z|]+)\)\$", pattern):
        return ", ".join(f"`{word}`" for word in choice[1].split("|"))
    bounds = [
        f"{words} {schema[key]:,}"
        for key, words in {
            "minimum": "from",
            "exclusiveMinimum": "more than",
            "maximum": "to",
            "exclusiveMaximum": "less than",
        }.items()
        if key in schema
    ]
    described = " ".join([kind[str(schema["type"])], *bounds])
    return f"{described} like `{pattern}`" if pattern else described


def _describe_default(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.get_secret_value() if isinstance(value, SecretStr) else value}`"


# ── metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def build_metrics() -> str:
    """Return docs/metrics.md."""
    shown_by = _group((series, service) for service in METRICS for series in read_metrics(service))
    rows = [
        [
            f"`{series.name}`",
            series.kind,
            series.unit,
            series.labels,
            ", ".join(services),
            series.meaning,
            series.advice,
        ]
        for series, services in shown_by.items()
    ]
    titles = ["metric", "type", "unit", "labels", "shown by", "meaning", "what to do about it"]
    return f"{METRICS_HEAD}\n{_table(titles, rows)}"


def read_metrics(service: str) -> Iterator[Series]:
    """Return every metric that a service declares, in the order of its declarations.

    Raises:
        ValueError: one of them does not say what to do about it.
    """
    registry = create_registry(service)
    for declare in METRICS[service]:
        declare(registry)
    for collector in list(registry._collector_to_names):  # prometheus-client lists what it holds in no public way
        if isinstance(collector, MetricWrapperBase):
            (family,) = collector.describe()
            yield _read_series(family, [*collector._labelnames, *_labels_of_values(collector)])
        elif isinstance(collector, QueueMetrics):
            for family in collector.describe():
                yield _read_series(family, family._labelnames)  # type: ignore[attr-defined]  # of gauges, as here


def _read_series(family: Metric, labels: Iterable[str]) -> Series:
    meaning, _, advice = family.documentation.partition(ADVICE)
    if not advice:
        raise ValueError(f"{family.name} does not say what to do about it")
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    unit = "" if family.type == "info" else family.name.rpartition("_")[2]
    listed = ", ".join(f"`{label}`" for label in dict.fromkeys(labels) if label != "le")
    return Series(family.name + suffix, family.type, unit, listed, meaning, advice)


def _labels_of_values(collector: MetricWrapperBase) -> Iterator[str]:
    return (label for family in collector.collect() for sample in family.samples for label in sample.labels)


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _group(pairs: Iterable[tuple[_K, _V]]) -> dict[_K, list[_V]]:
    found: dict[_K, list[_V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
