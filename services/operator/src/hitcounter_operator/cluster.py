"""The calls of the operator to the Kubernetes API server, and the translation of its errors.

Only this module and kopf, which watches the resource (handlers.py), call the API server. Every call has a timeout and
is made once: the next turn of the loop is the retry.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from hitcounter.errors import TransientError

from hitcounter_operator.objects import (
    Deployment,
    LeaseRecord,
    Pod,
    build_lease,
    find_scalers,
    read_deployment,
    read_hitcounter,
    read_lease,
    read_pods,
)
from hitcounter_operator.resource import GROUP, PLURAL, VERSION, HitCounter

_TIMEOUT_SECONDS: Final = 5.0
_ACCESS_SECONDS: Final = 60.0
"""How long a token and a CA certificate are used before they are read again: the kubelet rotates both."""
_REASON_MAX_CHARACTERS: Final = 300
_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"


class ClusterUnavailable(TransientError):
    """A call to the API server failed.

    Attributes:
        status: the HTTP status; None if there was no response.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Access:
    """Address and credentials of the API server."""

    server: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext


class Cluster:
    """The namespace of one installation. A process needs one instance; whoever opened it closes it."""

    def __init__(self, session: aiohttp.ClientSession, find_access: Callable[[], Access], namespace: str) -> None:
        self.namespace = namespace
        self.clock_offset_ms: float | None = None
        """The clock of the API server minus ours, at its last response, accurate to a second."""
        self._session = session
        self._find_access = find_access
        self._access: Access | None = None
        self._access_until_seconds = 0.0

    # ── the resource ────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_hitcounter(self, name: str) -> HitCounter | None:
        """Return the resource; None if it does not exist."""
        found = await self._find(f"/apis/{GROUP}/{VERSION}", PLURAL, name)
        return None if found is None else read_hitcounter(found)

    async def write_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Patch the status of the resource; None removes a field."""
        path = self._path(f"/apis/{GROUP}/{VERSION}", PLURAL, name, "status")
        await self._call("PATCH", path, {"status": status}, content_type=_MERGE)

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Post a Kubernetes Event, or increase the count of the one that it repeats, if that still exists.

        If the Event already exists because a response was lost, this is a success.
        """
        if event["count"] > 1 and await self._raise_count(event):
            return
        try:
            await self._call("POST", self._path("/api/v1", "events"), event)
        except ClusterUnavailable as error:
            if error.status != 409:
                raise

    async def _raise_count(self, event: Mapping[str, Any]) -> bool:
        path = self._path("/api/v1", "events", event["metadata"]["name"])
        patch = {name: event[name] for name in ("count", "message", "lastTimestamp")}
        try:
            await self._call("PATCH", path, patch, content_type=_MERGE)
        except ClusterUnavailable as error:
            if error.status not in (403, 404):  # the Event expired, or the Role is of an older version
                raise
            return False
        return True

    # ── the indexers ────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_deployment(self, name: str) -> Deployment | None:
        """Return the Deployment; None if it does not exist."""
        found = await self._find("/apis/apps/v1", "deployments", name)
        return None if found is None else read_deployment(found)

    async def list_pods(self, selector: str) -> list[Pod]:
        """Return the pods that match the selector."""
        return read_pods(await self._call("GET", self._path("/api/v1", "pods"), query={"labelSelector": selector}))

    async def list_scalers(self, deployment: str) -> list[str]:
        """Return the names of the HorizontalPodAutoscalers that scale the Deployment."""
        found = await self._call("GET", self._path("/apis/autoscaling/v2", "horizontalpodautoscalers"))
        return find_scalers(found, deployment)

    async def scale(self, deployment: str, *, current: int, wanted: int) -> bool:
        """Scale the Deployment. False if it was changed since it was read; then nothing is done."""
        path = self._path("/apis/apps/v1", "deployments", deployment, "scale")
        scale = await self._call("GET", path)
        if scale["spec"].get("replicas", 0) != current:
            return False
        version = scale["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": wanted}}
        try:
            await self._call("PATCH", path, patch, content_type=_MERGE)
        except ClusterUnavailable as error:
            if error.status != 409:
                raise
            return False
        return True

    # ── the lease ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_lease(self, name: str) -> LeaseRecord | None:
        """Return the Lease; None if it does not exist."""
        found = await self._find("/apis/coordination.k8s.io/v1", "leases", name)
        return None if found is None else read_lease(found)

    async def write_lease(self, name: str, record: LeaseRecord) -> LeaseRecord | None:
        """Create the Lease, or update it if the record has a version. None if another process was faster."""
        body = build_lease(name, record, datetime.now(UTC))
        base = "/apis/coordination.k8s.io/v1"
        method, path = (
            ("PUT", self._path(base, "leases", name)) if record.version else ("POST", self._path(base, "leases"))
        )
        try:
            return read_lease(await self._call(method, path, body))
        except ClusterUnavailable as error:
            if error.status != 409:
                raise
            return None

    # ── calling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _path(self, base: str, kind: str, *rest: str) -> str:
        return "/".join([f"{base}/namespaces/{self.namespace}/{kind}", *rest])

    async def _find(self, base: str, kind: str, name: str) -> dict[str, Any] | None:
        try:
            return await self._call("GET", self._path(base, kind, name))
        except ClusterUnavailable as error:
            if error.status != 404:
                raise
            return None

    async def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = _JSON,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        try:
            return await self._try_call(self._get_access(), method, path, body, content_type=content_type, query=query)
        except ClusterUnavailable as error:
            # The token or the CA certificate was rotated: read the files again and retry. Nothing was changed.
            if error.status != 401 and not isinstance(error.__cause__, aiohttp.ClientSSLError):
                raise
            self._access = None
        return await self._try_call(self._get_access(), method, path, body, content_type=content_type, query=query)

    def _get_access(self) -> Access:
        """Return address and credentials of the API server. They are read again every _ACCESS_SECONDS.

        Raises:
            ClusterUnavailable: they cannot be read, and there are no earlier ones.
        """
        now = time.monotonic()
        if self._access is None or now >= self._access_until_seconds:
            try:
                self._access = self._find_access()
            except (ClusterUnavailable, OSError, ValueError) as error:  # the files are being rotated right now
                if self._access is None:
                    raise ClusterUnavailable(f"cannot read the credentials for Kubernetes ({error})") from error
            self._access_until_seconds = now + _ACCESS_SECONDS
        return self._access

    async def _try_call(
        self,
        access: Access,
        method: str,
        path: str,
        body: object,
        *,
        content_type: str,
        query: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        try:
            async with self._session.request(
                method,
                access.server + path,
                params=query,
                json=body,
                headers={**access.headers, "Content-Type": content_type},
                ssl=access.tls,
            ) as answer:
                self._note_clock(answer.headers.get("Date"))
                if answer.status >= 400:
                    raise ClusterUnavailable(
                        f"Kubernetes answers {answer.status} to {method} {path}: {await _describe(answer)}",
                        status=answer.status,
                    )
                found: dict[str, Any] = await answer.json(content_type=None)
                return found
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or "it took too long"
            raise ClusterUnavailable(
                f"Kubernetes does not answer to {method} {path} ({reason[:_REASON_MAX_CHARACTERS]})"
            ) from error

    def _note_clock(self, date: str | None) -> None:
        if date is not None:
            told, ours = parsedate_to_datetime(date), datetime.now(UTC)
            self.clock_offset_ms = (told - ours).total_seconds() * 1000


async def _describe(answer: aiohttp.ClientResponse) -> str:
    text = await answer.text()
    try:
        reason = (await answer.json(content_type=None)).get("message", text)
    except (ValueError, AttributeError):
        reason = text
    return str(reason)[:_REASON_MAX_CHARACTERS]


@asynccontextmanager
async def open_cluster(find_access: Callable[[], Access], namespace: str) -> AsyncIterator[Cluster]:
    """Open a session with the API server; close it at the end. It connects at first use."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Cluster(session, find_access, namespace)
