"""Leader election: only the operator that holds the Kubernetes Lease works.

Two operators at work would have different cooldowns, scale up and down between two numbers, and overwrite each other's
status. So each turn starts with taking or renewing the Lease; an operator without it only waits. If the holder stops
renewing, it is replaced after the duration of the Lease, measured by our own monotonic clock alone. A holder that stops
normally releases the Lease at once.

A holder that was suspended and continues does no harm: its next write to the Lease fails, and until then a change of
the Deployment succeeds only if the Deployment was not changed since the operator read it (fencing by resourceVersion).

The elector of the client, `kubernetes.aio.leaderelection`, keeps none of these promises; decision 39 lists what it
lacks. The Lease itself is the client's model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client.models.v1_lease import V1Lease
from kubernetes.aio.client.models.v1_lease_spec import V1LeaseSpec
from kubernetes.aio.client.models.v1_object_meta import V1ObjectMeta

from hitcounter_operator.cluster import Cluster


class Lease:
    """The Lease of one operator."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str,
        identity: str,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._identity = identity
        self._seconds = int(seconds)  # as the Lease says it to others, who take it over after that time
        self._monotonic = monotonic
        self._seen: V1LeaseSpec | None = None
        self._seen_at_seconds = 0.0
        self._renewed_at_seconds: float | None = None

    @property
    def is_held(self) -> bool:
        """True while no other operator can hold it."""
        since = self._renewed_at_seconds
        return since is not None and self._monotonic() - since < self._seconds

    async def acquire(self) -> str | None:
        """Take or renew it. Return None if this operator holds it, else the name of the holder.

        Raises:
            ClusterUnavailable: the API server is down or refuses.
        """
        asked_at_seconds = self._monotonic()
        lease = await self._cluster.find_lease(self._name) or V1Lease(metadata=V1ObjectMeta(name=self._name))
        found = lease.spec or V1LeaseSpec()
        if not self._may_take(found):
            self._renewed_at_seconds = None
            return found.holder_identity
        lease.spec = self._take(found)
        is_ours = await self._cluster.write_lease(self._name, lease)
        self._renewed_at_seconds = asked_at_seconds if is_ours else None
        return None if is_ours else "another operator, which was faster"

    async def release(self) -> None:
        """Release it if this operator holds it, so that the next one need not wait.

        Raises:
            ClusterUnavailable: the API server is down or refuses.
        """
        if self._renewed_at_seconds is None:
            return
        lease = await self._cluster.find_lease(self._name)
        if lease is not None and lease.spec is not None and lease.spec.holder_identity == self._identity:
            lease.spec = lease.spec.model_copy(update={"holder_identity": ""})
            await self._cluster.write_lease(self._name, lease)
        self._renewed_at_seconds = None

    def _may_take(self, found: V1LeaseSpec) -> bool:
        if found != self._seen:
            self._seen, self._seen_at_seconds = found, self._monotonic()
        is_expired = self._monotonic() - self._seen_at_seconds > (found.lease_duration_seconds or 0)
        return found.holder_identity in (None, "", self._identity) or is_expired

    def _take(self, found: V1LeaseSpec) -> V1LeaseSpec:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond or 1)  # isoformat() omits a zero, and Kubernetes rejects that
        update: dict[str, Any] = {"renew_time": now, "lease_duration_seconds": self._seconds}
        if found.holder_identity != self._identity:
            transitions = (found.lease_transitions or 0) + 1
            update |= {"holder_identity": self._identity, "acquire_time": now, "lease_transitions": transitions}
        return found.model_copy(update=update)
