"""Writes docs/configuration.md and docs/metrics.md from the settings and the metrics that the code declares.

    .venv/bin/python tools/docgen.py [FOLDER]

The meaning of a variable or a metric is written once, where it is declared. A test fails if the documents differ. This
is the only tool that imports every service.
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

Every setting is an environment variable. A process reads it once, when it starts. A variable that is empty or not set
has its default. If a value is invalid, or a section that the process reads contains an unknown name, the process exits
with status 2 and prints one line for each mistake. The defaults are for running everything on one machine.

Addresses, passwords and TLS files are checked before the first connection. No message contains a password or an
address. A newline at the end of a value is removed, because `echo` leaves one in a Secret or a file. Values, and the
user names and passwords sent to Redis and Elasticsearch, are UTF-8.

The end of a name is its unit: `_seconds`, `_ms`, `_bytes`. A process ignores the sections that it does not read, so
that all services can share one set of variables.
"""

METRICS_HEAD: Final = f"""\
# Metrics

{GENERATED}

Each process exports its metrics in the Prometheus text format at `/metrics` of its management port, together with the
usual `process_*` and `python_info` metrics of the Prometheus client. Labels have a few fixed values, never an id. The
end of a name is its unit where it has one: `_seconds`, `_bytes`, `_hits`.

The values of the ledger and the queue are gauges, and every API exports the same values: use `max`, never `sum`. Do not
use `rate` on them, because they can decrease when Redis loses its last second; rates come from the counters. A value
that is not known is absent, never NaN: while Redis is down, the gauges of the queue are missing.

Metrics are updated once per batch, not once per hit: [what that costs](lab.md#what-watching-costs).

Recording rules and alerts are in [the rules](../charts/hitcounter/files/rules/hitcounter.yaml). What to do when an
alert fires is in the [runbook](runbook.md).
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
    """One metric, by the name it has in Prometheus."""

    name: str
    kind: str
    labels: str
    meaning: str
    advice: str


def main(arguments: list[str]) -> None:
    """Write both documents into the given folder; the default is docs/."""
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
        ValueError: one of them has no description.
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
    """Return the description of each section; if services have their own variants, that of their common base."""
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
            series.labels,
            ", ".join(services),
            series.meaning,
            series.advice,
        ]
        for series, services in shown_by.items()
    ]
    titles = ["metric", "type", "labels", "exported by", "meaning", "what to do about it"]
    return f"{METRICS_HEAD}\n{_table(titles, rows)}"


def read_metrics(service: str) -> Iterator[Series]:
    """Return every metric that a service declares, in the order of its declarations.

    Raises:
        ValueError: the help text of one of them has no advice.
    """
    registry = create_registry(service)
    for declare in METRICS[service]:
        declare(registry)
    for collector in list(registry._collector_to_names):  # prometheus-client has no public list of collectors
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
    listed = ", ".join(f"`{label}`" for label in dict.fromkeys(labels) if label != "le")
    return Series(family.name + suffix, family.type, listed, meaning, advice)


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
