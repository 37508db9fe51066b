"""kopf, and nothing else knows it: how to get into the cluster, and a watch that wakes the loop.

There are no timers, no daemons and no handlers of deletion: kopf would put a finalizer on the resource for each, and
then nothing could be deleted without a living operator. What a handler is told is not used either: the loop looks for
itself, so that an event that was missed costs one interval and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
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


class Watcher:
    """Watches the resource on a thread of its own, and wakes the loop when it changes.

    Of its own, for kopf takes the signals of the process and, when it ends, every task of the event loop it runs in.

    Args:
        namespace: the operator's.
        name: of the resource.
        wake: called, on that thread, whenever the resource is created, deleted, or asks for something else.
    """

    def __init__(self, namespace: str, name: str, wake: Callable[[], None]) -> None:
        self._namespace = namespace
        self._name = name
        self._wake = wake
        self._stopping = threading.Event()
        self._end_watch: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        logging.getLogger("kopf").setLevel(logging.ERROR)  # what it cannot do is nothing that the loop relies on
        self._thread.start()

    def stop(self) -> None:
        """End, within a moment."""
        self._stopping.set()
        self._end_watch()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                asyncio.run(self._watch())
            except Exception as error:  # noqa: BLE001 - whatever ends the watch, the loop goes on without it
                log.warning("the watch ended; watching anew", error=repr(error))
            self._stopping.wait(_AGAIN_SECONDS)

    async def _watch(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(ended.set)

        self._end_watch = end
        if not self._stopping.is_set():
            await kopf.operator(
                registry=_build_registry(self._name, self._wake),
                settings=_build_settings(),
                namespaces=[self._namespace],
                standalone=True,
                stop_flag=ended,
            )


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
        try:
            return _log_in(settings)
        except ClusterUnavailable as error:
            raise kopf.TemporaryError(str(error), delay=_AGAIN_SECONDS) from error

    async def see(type: str | None, meta: kopf.Meta, **_: Any) -> None:  # noqa: A002 - kopf's own name
        seen = [(meta["uid"], meta["generation"])]
        if meta["name"] == name and (type == "DELETED" or seen != last):  # not at each status that the loop writes
            last[:] = seen
            wake()

    kopf.on.login(registry=registry)(log_in)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(see)
    return registry
