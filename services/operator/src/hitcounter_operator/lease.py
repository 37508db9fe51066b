"""Leader election: only the operator that holds the Kubernetes Lease works.

Two operators at work would have different cooldowns, scale up and down between two numbers, and overwrite each other's
status. So each turn starts with taking or renewing the Lease; an operator without it only waits. If the holder stops
renewing, it is replaced after the duration of the Lease, measured by our own clock alone. A holder that stops normally
releases the Lease at once.

A holder that was suspended and continues does no harm: its next write to the Lease fails, and until then a change of
the Deployment succeeds only if the Deployment was not changed since the operator read it (fencing by resourceVersion).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from hitcounter_operator.objects import LeaseRecord


class Leases(Protocol):
    """The store of the Lease."""

    async def find_lease(self, name: str) -> LeaseRecord | None:
        """Return the Lease; None if it does not exist."""

    async def write_lease(self, name: str, record: LeaseRecord) -> LeaseRecord | None:
        """Write the Lease; None if another process was faster."""


class Lease:
    """The Lease of one operator."""

    def __init__(
        self,
        leases: Leases,
        *,
        name: str,
        identity: str,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._monotonic = monotonic
        self._seen: LeaseRecord | None = None
        self._seen_at_seconds = 0.0
        self._renewed_at_seconds: float | None = None

    @property
    def is_held(self) -> bool:
        """True while no other operator can hold it."""
        since = self._renewed_at_seconds
        return since is not None and self._monotonic() - since < self._seconds

    async def hold(self) -> str | None:
        """Take or renew it. Return None if this operator holds it, else the name of the holder.

        Raises:
            ClusterUnavailable: the API server is down or refuses.
        """
        asked_at_seconds = self._monotonic()
        found = await self._leases.find_lease(self._name)
        if found is not None and not self._may_take(found):
            self._renewed_at_seconds = None
            return found.holder
        written = await self._leases.write_lease(self._name, self._build(found))
        if written is None:
            self._renewed_at_seconds = None
            return "somebody who was quicker"
        self._renewed_at_seconds = asked_at_seconds
        return None

    async def release(self) -> None:
        """Release it if this operator holds it, so that the next one need not wait.

        Raises:
            ClusterUnavailable: the API server is down or refuses.
        """
        if self._renewed_at_seconds is None:
            return
        found = await self._leases.find_lease(self._name)
        if found is not None and found.holder == self._identity:
            await self._leases.write_lease(self._name, replace(found, holder="", duration_seconds=1))
        self._renewed_at_seconds = None

    def _may_take(self, found: LeaseRecord) -> bool:
        if found != self._seen:
            self._seen, self._seen_at_seconds = found, self._monotonic()
        is_silent = self._monotonic() - self._seen_at_seconds > found.duration_seconds
        return found.holder in ("", self._identity) or is_silent

    def _build(self, found: LeaseRecord | None) -> LeaseRecord:
        is_ours = found is not None and found.holder == self._identity
        return LeaseRecord(
            holder=self._identity,
            duration_seconds=self._seconds,
            renewed_at="",
            transitions=(found.transitions if found else 0) + (not is_ours),
            version=found.version if found else "",
        )
