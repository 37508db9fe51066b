"""kopf, and nothing else knows it: how to get into the cluster, and a watch that wakes the loop.

There are no timers, no daemons and no handlers of deletion: kopf would put a finalizer on the resource for each, and
then nothing could be deleted without a living operator. What a handler is told is not used either: the loop looks for
itself, so that an event that was missed costs one interval and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import kopf
from hitcounter.logs import get_logger

from hitcounter_operator.cluster import Access, ClusterUnavailable
from hitcounter_operator.resource import GROUP, PLURAL, VERSION

_AGAIN_SECONDS: Final = 5.0

log = get_logger()


def find_access() -> Access:
    """Return the way into the cluster: the pod's service account, or else what kubectl uses here.

    Raises:
        ClusterUnavailable: there is neither.
    """
    found = _log_in(kopf.OperatorSettings())
    return Access(found.server.rstrip("/"), found.as_http_headers(), found.as_ssl_context())


def _log_in(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo:
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise ClusterUnavailable("there is no service account here, and no kubeconfig")
    return found


async def watch(namespace: str, name: str, wake: Callable[[], None], on_start: Callable[[], None]) -> None:
    """Watch the resource until cancelled, and wake the loop when it changes.

    Args:
        namespace: the operator's.
        name: of the resource.
        wake: called whenever it is created, deleted, or asks for something else.
        on_start: called whenever kopf has begun, and by that taken the process's signals for itself.
    """
    logging.getLogger("kopf").setLevel(logging.WARNING)
    while True:
        try:
            others = asyncio.all_tasks()
            tasks = await kopf.spawn_tasks(
                registry=_build_registry(name, wake),
                settings=_build_settings(),
                namespaces=[namespace],
                standalone=True,
            )
            on_start()
            await kopf.run_tasks(tasks, ignored=others)
        except Exception as error:  # noqa: BLE001 - whatever ends the watch, the loop goes on without it
            log.warning("the watch ended; watching anew", error=repr(error))
        await asyncio.sleep(_AGAIN_SECONDS)


def _build_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # it would list namespaces and definitions of the whole cluster
    settings.posting.enabled = False  # what is worth an Event, the loop says
    settings.peering.standalone = True
    return settings


def _build_registry(name: str, wake: Callable[[], None]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    last: list[tuple[str, int]] = []

    async def log_in(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo:
        return _log_in(settings)

    async def see(type: str | None, meta: kopf.Meta, **_: Any) -> None:  # noqa: A002 - kopf's own name
        seen = [(meta["uid"], meta["generation"])]
        if meta["name"] == name and (type == "DELETED" or seen != last):  # not at each status that the loop writes
            last[:] = seen
            wake()

    kopf.on.login(registry=registry)(log_in)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(see)
    return registry
