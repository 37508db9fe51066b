"""Writes the files that are generated from the chart: the table of values, plain manifests, and schemas for tests.

    tools/chart.py table FILE        the README of the chart, with a new table of values between its marks
    tools/chart.py values FOLDER     values.schema.json of the three charts, with the comments of values.yaml as
                                     descriptions, and with the bounds and descriptions of the settings
    tools/chart.py manifests FILE    k8s/hitcounter.yaml, for installations without Helm
    tools/chart.py rules FILE        k8s/addons/prometheus-rules.yaml, for installations without Helm
    tools/chart.py schemas FOLDER    the schemas of other projects' CRDs, from their Go modules (needs Go)

Without FILE or FOLDER they write to the places in the repository. `tools/helm.sh` fetches the Helm that renders.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hitcounter.settings import SettingsBase
from hitcounter_api.settings import ApiSettings
from hitcounter_indexer.settings import IndexerSettings
from hitcounter_operator.settings import OperatorSettings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/hitcounter"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"

FOREIGN_KINDS = {
    "github.com/kedacore/keda/v2@v2.21.0": [
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ],
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "sigs.k8s.io/gateway-api@v1.6.3": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
}
COMPOSE, COMPOSE_SCHEMA = "github.com/compose-spec/compose-go/v2@v2.16.2", "schema/compose-spec.json"

# ── the table of values ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Value:
    """One documented value."""

    path: str
    default: str
    meaning: str


def read_values(text: str) -> Iterator[Value]:
    """Return every value with a `# --` comment, in the order of the file."""
    defaults = yaml.safe_load(text)
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if started := re.match(r" *# -- (.*)", line):
            comment = [started[1]]
        elif comment and (more := re.match(r" *# (.*)", line)):
            comment.append(more[1])
        elif key := re.match(r"( *)(\w+):", line):
            path = [*(step for step in path if step[0] < len(key[1])), (len(key[1]), key[2])]
            names = [name for _, name in path]
            if comment:
                yield Value(".".join(names), _show(_look_up(defaults, names)), " ".join(comment))
            comment = []


def _look_up(values: Any, names: list[str]) -> Any:
    for name in names:
        values = values[name]
    return values


def _show(default: Any) -> str:
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 60 else "see values.yaml"


def build_table(values: Path, prefix: str = "") -> str:
    """Return the Markdown table of the values in a file."""
    rows = [
        f"| `{prefix}{value.path}` | {value.default} | {value.meaning} |" for value in read_values(values.read_text())
    ]
    return "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])


def write_table(readme: Path) -> None:
    """Write the tables between the marks in the chart's README."""
    before, rest = (CHART / "README.md").read_text().split(BEGIN)
    after = rest.split(END)[1]
    sections = [
        build_table(CHART / "values.yaml"),
        "### The bundled Redis",
        build_table(CHART / "charts/redis/values.yaml", "redis."),
        "### The bundled Elasticsearch",
        build_table(CHART / "charts/elasticsearch/values.yaml", "elasticsearch."),
    ]
    readme.write_text(before + BEGIN + "\n\n" + "\n\n".join(sections) + "\n\n" + END + after)


# ── schemas of the values ───────────────────────────────────────────────────────────────────────────────────────────

SCHEMA = "values.schema.json"
CHARTS = ["", "charts/redis", "charts/elasticsearch"]
SERVICES: dict[str, type[SettingsBase]] = {"api": ApiSettings, "indexer": IndexerSettings, "operator": OperatorSettings}
WORDS = ["description", "type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
"""What a setting's own schema tells the schema of the values."""


def write_value_schemas(folder: Path) -> None:
    """Write the schemas again. Structure and bounds of values that are not settings are kept as they are."""
    for chart in CHARTS:
        schema = json.loads((CHART / chart / SCHEMA).read_text())
        for value in read_values((CHART / chart / "values.yaml").read_text()):
            _describe(schema, value)
        if not chart:
            _copy_settings(schema["properties"])
        file = folder / chart / SCHEMA
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


def _describe(schema: dict[str, Any], value: Value) -> None:
    node = schema
    for name in value.path.split("."):
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
        if name not in node["properties"]:
            raise SystemExit(f"{SCHEMA} lacks {value.path}: add its type and bounds")
        node = node["properties"][name]
    rest = {word: node.pop(word) for word in list(node)}
    node.update({"description": value.meaning, **{word: rest[word] for word in rest if word != "description"}})


def _copy_settings(values: dict[str, Any]) -> None:
    for service, kind in SERVICES.items():
        sections = {**values["config"]["properties"], **values[service]["properties"]["config"]["properties"]}
        for name in sections.keys() & kind.model_fields.keys():
            model = type(kind.model_fields[name].get_default(call_default_factory=True))
            document = model.model_json_schema()
            for field in sections[name]["properties"]:
                own = document["properties"][field]
                own = {**document.get("$defs", {}).get(own.get("$ref", "").rpartition("/")[2], {}), **own}
                sections[name]["properties"][field] = {word: own[word] for word in WORDS if word in own}


# ── plain manifests ──────────────────────────────────────────────────────────────────────────────────────────────────

MANIFESTS_HEAD = """\
# The chart's defaults as plain manifests, for installations without Helm. Generated by tools/chart.py; do not edit.
#
#   kubectl apply --server-side -f k8s/hitcounter.yaml
#
apiVersion: v1
kind: Namespace
metadata:
  name: hitcounter
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


RULES_HEAD = """\
# The chart's rules for the installation of k8s/hitcounter.yaml, for the Prometheus operator without Helm. Generated by
# tools/chart.py; edit charts/hitcounter/files/rules instead. A Prometheus without the operator can load those rules as
# they are.
#
#   kubectl apply --server-side -f k8s/addons/prometheus-rules.yaml
#
"""


def write_manifests(file: Path) -> None:
    """Render the defaults, without labels and comments that only Helm needs."""
    file.write_text("---\n".join([MANIFESTS_HEAD, *_render_plainly()]))


def write_rules(file: Path) -> None:
    """Render the rules in the same way."""
    shown = ("--set", "monitoring.rules.enabled=true", "--show-only", "templates/monitoring/prometheusrule.yaml")
    file.write_text(RULES_HEAD + "".join(_render_plainly(*shown)))


def _render_plainly(*options: str) -> list[str]:
    helm = subprocess.run([ROOT / "tools/helm.sh", "path", "helm-4"], check=True, capture_output=True, text=True)
    command = [helm.stdout.strip(), "template", "hc", str(CHART), "--namespace", "hitcounter", "--no-hooks", *options]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    documents = (document.strip("\n") for document in re.split(r"^---$", rendered, flags=re.MULTILINE))
    return [_without_helm(document) for document in documents if document.strip()]


def _without_helm(document: str) -> str:
    lines = [line.rstrip() for line in document.splitlines()]
    foreign = re.compile(r"^# Source:|^ +app\.kubernetes\.io/managed-by: |^ +helm\.sh/chart: ")
    return "\n".join(line for line in lines if not foreign.match(line)) + "\n"


# ── schemas of other projects' CRDs ─────────────────────────────────────────────────────────────────────────────────


def write_schemas(folder: Path) -> None:
    """Convert the CRDs of other projects into strict schemas, one for each kind, and copy the schema of Compose."""
    folder.mkdir(parents=True, exist_ok=True)
    for module, files in FOREIGN_KINDS.items():
        home = _fetch_module(module)
        for file in files:
            _write_schema(folder, module, yaml.safe_load((home / file).read_text()))
    compose = _without_prose(json.loads((_fetch_module(COMPOSE) / COMPOSE_SCHEMA).read_text()))
    _write_json(folder / "compose-spec.json", {"$comment": f"from {COMPOSE}", **compose})


def _fetch_module(module: str) -> Path:
    answer = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, text=True)
    return Path(json.loads(answer.stdout)["Dir"])


def _without_prose(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    is_prose = {name for name in ("description", "title") if isinstance(schema.get(name), str)}
    return {name: _without_prose(item) for name, item in schema.items() if name not in is_prose}


def _write_json(file: Path, body: Any) -> None:
    file.write_text(json.dumps(body, separators=(",", ":"), sort_keys=True) + "\n")


def _write_schema(folder: Path, module: str, definition: dict[str, Any]) -> None:
    spec = definition["spec"]
    version = next(version for version in spec["versions"] if version["storage"])
    body = {"$comment": f"from {module}", **make_strict(version["schema"]["openAPIV3Schema"])}
    name = f"{spec['names']['kind']}-{version['name']}.json".lower()
    _write_json(folder / name, body)


def make_strict(schema: Any) -> Any:
    """Remove the descriptions, and allow only the listed properties."""
    if isinstance(schema, list):
        return [make_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {
        key: _make_properties_strict(value) if key == "properties" else make_strict(value)
        for key, value in schema.items()
        if not (key in ("description", "default", "format") or key.startswith("x-kubernetes-validations"))
    }
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not is_open:
        strict["additionalProperties"] = False
    return {key: value for key, value in strict.items() if not key.startswith("x-")}


def _make_properties_strict(properties: dict[str, Any]) -> dict[str, Any]:
    """Convert the properties. Their names are not schema keywords, even if they look like keywords."""
    strict = {name: make_strict(value) for name, value in properties.items()}
    if strict.get("metadata") == {"type": "object"}:
        strict["metadata"] = {"type": "object", "required": ["name"]}
    return strict


WRITERS = {
    "table": (write_table, CHART / "README.md"),
    "values": (write_value_schemas, CHART),
    "manifests": (write_manifests, ROOT / "k8s/hitcounter.yaml"),
    "rules": (write_rules, ROOT / "k8s/addons/prometheus-rules.yaml"),
    "schemas": (write_schemas, ROOT / "tests/chart/schemas"),
}

if __name__ == "__main__":
    writer, place = WRITERS[sys.argv[1]]
    writer(Path(sys.argv[2]) if len(sys.argv) > 2 else place)
