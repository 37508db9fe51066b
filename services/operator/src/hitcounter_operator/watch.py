"""Watches the resource with kopf, and wakes the loop when it changes. The only module that uses kopf.

There are no timers, daemons or deletion handlers: for each of them kopf would add a finalizer, and then the resource
could not be deleted while the operator is not running. The content of watch events is not used: the loop reads the
resource itself, so that a missed event only costs one interval.
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

from hitcounter_operator.resource import GROUP, PLURAL, VERSION

_AGAIN_SECONDS: Final = 5.0

log = get_logger()


class Watch:
    """Watches the resource in its own thread.

    It needs its own thread, because kopf handles the signals of the process, and cancels all tasks of its event loop
    when it ends.

    Args:
        namespace: the namespace of the operator.
        name: the name of the resource.
        wake: called in that thread when the resource is created or deleted, or its spec changes.
    """

    def __init__(self, namespace: str, name: str, wake: Callable[[], None]) -> None:
        self._namespace = namespace
        self._name = name
        self._wake = wake
        self._stopping = threading.Event()
        self._end_watch: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start watching."""
        logging.getLogger("kopf").setLevel(logging.ERROR)  # the loop does not depend on what it warns about
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        self._end_watch()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                asyncio.run(self._watch())
            except Exception as error:  # noqa: BLE001 - whatever ends the watch, the loop continues without it
                log.warning("the watch ended; starting it again", error=repr(error))
            self._stopping.wait(_AGAIN_SECONDS)

    async def _watch(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(ended.set)

        self._end_watch = end
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True  # it would list namespaces and definitions of the whole cluster
        settings.posting.enabled = False  # the loop posts the Events
        settings.peering.standalone = True
        if not self._stopping.is_set():
            await kopf.operator(
                registry=self._build_registry(),
                settings=settings,
                namespaces=[self._namespace],
                standalone=True,
                stop_flag=ended,
            )

    def _build_registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        last: list[tuple[str, int]] = []

        async def log_in(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo:
            found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
            if found is None:
                raise kopf.TemporaryError("there is no service account here, and no kubeconfig", delay=_AGAIN_SECONDS)
            return found

        async def see(type: str | None, meta: kopf.Meta, **_: Any) -> None:  # noqa: A002 - kopf's own name
            seen = [(meta["uid"], meta["generation"])]
            if meta["name"] == self._name and (type == "DELETED" or seen != last):  # not for a change of the status
                last[:] = seen
                self._wake()

        kopf.on.login(registry=registry)(log_in)
        kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(see)
        return registry
