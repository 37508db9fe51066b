"""Calls to the API server, by the asyncio part of the official `kubernetes` client.

Only the light parts of the client are imported: the models of CoreV1Api and AppsV1Api would double the memory of the
process (decision 39). Every call has a timeout and is made once: the next turn of the loop is the retry. The one
exception is a call that is rejected because the token or the CA certificate was rotated.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
from hitcounter.errors import TransientError
from kubernetes.aio.client import ApiException, Configuration
from kubernetes.aio.client.api.autoscaling_v1_api import AutoscalingV1Api
from kubernetes.aio.client.api.coordination_v1_api import CoordinationV1Api
from kubernetes.aio.client.api.custom_objects_api import CustomObjectsApi
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.models.v1_lease import V1Lease
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from hitcounter_operator.resource import GROUP, PLURAL, VERSION, HitCounter
from hitcounter_operator.state import Deployment

_TIMEOUT_SECONDS: Final = 5.0
_ACCESS_SECONDS: Final = 60.0
"""How long a token and a CA certificate are used before they are read again: the kubelet rotates both."""
_REASON_MAX_CHARACTERS: Final = 300

T = TypeVar("T")


class ClusterUnavailable(TransientError):
    """A call to the API server failed.

    Attributes:
        status: the HTTP status; None if there was no response.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


async def load_access(configuration: Configuration) -> None:
    """Set address and credentials of the API server: those of the pod's service account, or of the kubeconfig.

    Raises:
        ConfigException: there are neither.
    """
    try:
        # The operator reads the files again itself: the client would reread the token, but never the CA certificate.
        load_incluster_config(configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        try:
            await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except ConfigException as second:
            raise ConfigException(f"{error} There is no kubeconfig either: {second}") from second


class Cluster:
    """The namespace of one installation. A process needs one instance, and closes it. It connects at first use.

    Args:
        namespace: the namespace.
        load: sets address and credentials in a configuration of the client.
    """

    def __init__(self, namespace: str, load: Callable[[Configuration], Awaitable[None]] = load_access) -> None:
        self.namespace = namespace
        self._load = load
        self._client: ApiClient | None = None
        self._client_until_seconds = 0.0

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call] # the client has types only in part

    # ── the resource ────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_hitcounter(self, name: str) -> HitCounter | None:
        """Return the resource; None if it does not exist."""
        found: Any = await self._find(
            lambda client: CustomObjectsApi(client).get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name
            )
        )
        return None if found is None else HitCounter.model_validate({**found, **found["metadata"]})

    async def write_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Patch the status of the resource; None removes a field."""
        await self._call(
            lambda client: CustomObjectsApi(client).patch_namespaced_custom_object_status(
                GROUP, VERSION, self.namespace, PLURAL, name, {"status": dict(status)}
            )
        )

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Post a Kubernetes Event, or increase the count of the one that it repeats, if that still exists.

        If the Event already exists because a response was lost, this is a success.
        """
        path = f"/api/v1/namespaces/{self.namespace}/events"
        if event["count"] > 1:
            patch = {name: event[name] for name in ("count", "message", "lastTimestamp")}
            try:
                await self._call(lambda client: _send(client, "PATCH", f"{path}/{event['metadata']['name']}", patch))
            except ClusterUnavailable as error:
                if error.status not in (403, 404):  # the Event expired, or the Role is of an older version
                    raise
            else:
                return
        try:
            await self._call(lambda client: _send(client, "POST", path, event))
        except ClusterUnavailable as error:
            if error.status != 409:
                raise

    # ── the indexers ────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_deployment(self, name: str) -> Deployment | None:
        """Return the Deployment; None if it does not exist."""
        found: Any = await self._find(
            lambda client: CustomObjectsApi(client).get_namespaced_custom_object(
                "apps", "v1", self.namespace, "deployments", name
            )
        )
        if found is None:
            return None
        return Deployment(found["spec"].get("replicas", 1), found.get("status", {}).get("readyReplicas", 0))

    async def list_scalers(self, deployment: str) -> list[str]:
        """Return the names of the HorizontalPodAutoscalers that scale the Deployment; KEDA's are among them."""
        found = await self._call(
            lambda client: AutoscalingV1Api(client).list_namespaced_horizontal_pod_autoscaler(self.namespace)
        )
        scalers = [(one.metadata, one.spec.scale_target_ref) for one in found.items if one.metadata and one.spec]
        return sorted(
            str(scaler.name) for scaler, target in scalers if (target.kind, target.name) == ("Deployment", deployment)
        )

    async def scale(self, deployment: str, *, current: int, wanted: int) -> bool:
        """Scale the Deployment. False if it was changed since it was read; then nothing is done."""
        where = ("apps", "v1", self.namespace, "deployments", deployment)
        scale: Any = await self._call(
            lambda client: CustomObjectsApi(client).get_namespaced_custom_object_scale(*where)
        )
        if scale["spec"].get("replicas", 0) != current:
            return False
        # Fencing: the API server rejects the change if somebody else changed the Deployment meanwhile.
        patch = {"metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]}, "spec": {"replicas": wanted}}
        return not await self._is_conflict(
            lambda client: CustomObjectsApi(client).patch_namespaced_custom_object_scale(*where, patch)
        )

    # ── the lease ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_lease(self, name: str) -> V1Lease | None:
        """Return the Lease; None if it does not exist."""
        return await self._find(lambda client: CoordinationV1Api(client).read_namespaced_lease(name, self.namespace))

    async def write_lease(self, name: str, lease: V1Lease) -> bool:
        """Create the Lease, or update it if it has a resourceVersion. False if another process was faster."""

        def write(client: ApiClient) -> Awaitable[V1Lease]:
            api = CoordinationV1Api(client)
            if lease.metadata is None or lease.metadata.resource_version is None:
                return api.create_namespaced_lease(self.namespace, lease)
            return api.replace_namespaced_lease(name, self.namespace, lease)

        return not await self._is_conflict(write)

    # ── calling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _find(self, call: Callable[[ApiClient], Awaitable[T]]) -> T | None:
        try:
            return await self._call(call)
        except ClusterUnavailable as error:
            if error.status != 404:
                raise
            return None

    async def _is_conflict(self, call: Callable[[ApiClient], Awaitable[object]]) -> bool:
        try:
            await self._call(call)
        except ClusterUnavailable as error:
            if error.status != 409:
                raise
            return True
        return False

    async def _call(self, call: Callable[[ApiClient], Awaitable[T]]) -> T:
        try:
            return await _try_call(call, await self._get_client())
        except ClusterUnavailable as error:
            # The token or the CA certificate was rotated: read the files again and retry. Nothing was changed.
            if error.status != 401 and not isinstance(error.__cause__, aiohttp.ClientSSLError):
                raise
            self._client_until_seconds = 0.0
        return await _try_call(call, await self._get_client())

    async def _get_client(self) -> ApiClient:
        """Return a client with address and credentials that are at most _ACCESS_SECONDS old, if they can be read.

        Raises:
            ClusterUnavailable: they cannot be read, and there are no earlier ones.
        """
        now, before = time.monotonic(), self._client
        if before is not None and now < self._client_until_seconds:
            return before
        try:
            await self._load(configuration := Configuration())
            client = ApiClient(configuration)
        except (ConfigException, OSError, ValueError) as error:  # the files are being rotated right now
            if before is None:
                raise ClusterUnavailable(f"cannot read the credentials for Kubernetes ({error})") from error
            client = before
        else:
            await self.aclose()
        self._client, self._client_until_seconds = client, now + _ACCESS_SECONDS
        return client


async def _try_call(call: Callable[[ApiClient], Awaitable[T]], client: ApiClient) -> T:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await call(client)
    except ApiException as error:
        raise ClusterUnavailable(
            f"Kubernetes answers {error.status}: {_describe(error)}", status=error.status
        ) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or "it took too long"
        raise ClusterUnavailable(f"Kubernetes does not answer ({reason[:_REASON_MAX_CHARACTERS]})") from error
    except ValueError as error:  # no JSON, as from a proxy, or not what the client's model allows
        raise ClusterUnavailable("the answer of Kubernetes cannot be read") from error


async def _send(client: ApiClient, method: str, path: str, body: Mapping[str, Any]) -> None:
    """Send a request without the models of CoreV1Api."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    request = await client.param_serialize(
        method, path, header_params={"Content-Type": kind}, body=dict(body), auth_settings=["BearerToken"]
    )
    response = await client.call_api(*request)
    await response.read()  # type: ignore[no-untyped-call]
    client.response_deserialize(response, {})  # raises ApiException for an error


def _describe(error: ApiException) -> str:
    try:
        reason = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        reason = error.body or error.reason
    return str(reason)[:_REASON_MAX_CHARACTERS]
