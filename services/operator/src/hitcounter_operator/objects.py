"""The Kubernetes objects that the operator reads and writes, as plain values. Pure.

Only the fields that are needed are read. A missing field has its Kubernetes default: replicas is 1, readyReplicas is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hitcounter_operator.resource import GROUP, KIND, VERSION, HitCounter

Json = Mapping[str, Any]

MANAGEMENT_PORT: Final = "management"
"""The name, in the chart, of the port of an indexer pod that serves /metrics."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The Deployment of the indexers."""

    name: str
    replicas: int
    """The number of pods that it requests."""
    ready_replicas: int
    selector: str
    """The label selector of its pods, as text for the API server."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One indexer."""

    name: str
    uid: str
    address: str | None
    """host:port of its metrics; None if it has no address."""
    created_at: datetime
    ready_at: datetime | None
    """When it became ready; None if it is not ready."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of the Lease."""

    holder: str
    """The operator that holds it; empty if none does."""
    duration_seconds: float
    renewed_at: str
    """Compared only for equality, because clocks differ."""
    transitions: int
    version: str
    """The resourceVersion: an update fails if another process changed the Lease since."""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_hitcounter(found: Json) -> HitCounter:
    """Return the resource."""
    metadata = found["metadata"]
    return HitCounter(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        spec=found.get("spec", {}),
        status=found.get("status", {}),
    )


def read_deployment(found: Json) -> Deployment:
    """Return the Deployment."""
    spec = found["spec"]
    return Deployment(
        name=found["metadata"]["name"],
        replicas=spec.get("replicas", 1),
        ready_replicas=found.get("status", {}).get("readyReplicas", 0),
        selector=_write_selector(spec["selector"]),
    )


def _write_selector(selector: Json) -> str:
    """Return a label selector as text: `app=indexer,tier in (a,b)`."""
    labels = [f"{name}={value}" for name, value in selector.get("matchLabels", {}).items()]
    words = {"In": "{} in ({})", "NotIn": "{} notin ({})", "Exists": "{}", "DoesNotExist": "!{}"}
    expressions = (
        words[one["operator"]].format(one["key"], ",".join(one.get("values", [])))
        for one in selector.get("matchExpressions", [])
    )
    return ",".join([*labels, *expressions])


def read_pods(found: Json) -> list[Pod]:
    """Return the pods of a list, without those that ended or are being deleted."""
    return [_read_pod(one) for one in found["items"] if _is_at_work(one)]


def _is_at_work(found: Json) -> bool:
    is_leaving = "deletionTimestamp" in found["metadata"]
    return not is_leaving and found.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _read_pod(found: Json) -> Pod:
    metadata, status = found["metadata"], found.get("status", {})
    ip, port = status.get("podIP"), _find_port(found)
    ready = [one for one in status.get("conditions", []) if one["type"] == "Ready" and one["status"] == "True"]
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        address=f"[{ip}]:{port}" if ip and ":" in ip else f"{ip}:{port}" if ip and port else None,
        created_at=read_time(metadata["creationTimestamp"]),
        ready_at=read_time(ready[0]["lastTransitionTime"]) if ready else None,
    )


def _find_port(found: Json) -> int | None:
    ports = (port for container in found["spec"]["containers"] for port in container.get("ports", []))
    return next((port["containerPort"] for port in ports if port.get("name") == MANAGEMENT_PORT), None)


def find_scalers(found: Json, deployment: str) -> list[str]:
    """Return the names of the HorizontalPodAutoscalers of a list that drive the Deployment; KEDA's are among them."""
    return sorted(
        one["metadata"]["name"]
        for one in found["items"]
        if (target := one["spec"]["scaleTargetRef"])["kind"] == "Deployment" and target["name"] == deployment
    )


def read_lease(found: Json) -> LeaseRecord:
    """Return the content of the Lease."""
    spec = found.get("spec", {})
    return LeaseRecord(
        holder=spec.get("holderIdentity", ""),
        duration_seconds=spec.get("leaseDurationSeconds", 0),
        renewed_at=spec.get("renewTime", ""),
        transitions=spec.get("leaseTransitions", 0),
        version=found["metadata"]["resourceVersion"],
    )


def read_time(text: str) -> datetime:
    """Return a time as the API server writes it."""
    return datetime.fromisoformat(text)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_time(moment: datetime) -> str:
    """Return a time as the API server writes it, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def build_lease(name: str, record: LeaseRecord, now: datetime) -> dict[str, Any]:
    """Return the body that creates the Lease, or updates it if the record has a version."""
    moment = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    metadata = {"name": name, **({"resourceVersion": record.version} if record.version else {})}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": int(record.duration_seconds),
            "renewTime": moment,
            "leaseTransitions": record.transitions,
        },
    }


def build_event(
    about: HitCounter, *, name: str, reason: str, message: str, is_warning: bool, now: datetime, reporter: str
) -> dict[str, Any]:
    """Return a Kubernetes Event about the resource."""
    moment = write_time(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
        },
        "reason": reason,
        "message": _shorten(message),
        "type": "Warning" if is_warning else "Normal",
        "source": {"component": "hitcounter-operator"},
        "reportingComponent": "hitcounter.io/operator",
        "reportingInstance": reporter,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


_MESSAGE_MAX_CHARACTERS: Final = 1000
"""Kubernetes takes 1,024 bytes."""


def _shorten(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _MESSAGE_MAX_CHARACTERS:
        return message
    return encoded[:_MESSAGE_MAX_CHARACTERS].decode(errors="ignore") + "…"


def list_names(names: Iterable[str], most: int = 10) -> str:
    """Return names as one text, the first of many and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
