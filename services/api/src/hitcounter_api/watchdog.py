"""The watchdog of systemd: this tells it that the event loop runs. systemd restarts a process that stops telling it.

On Kubernetes the variables of systemd are not set and nothing is sent; Kubernetes probes /livez instead.
"""

from __future__ import annotations

import asyncio
import socket

from hitcounter.logs import get_logger

from hitcounter_api.settings import WatchdogSettings

log = get_logger()


async def feed_watchdog(settings: WatchdogSettings) -> None:
    """Notify systemd twice per period (sd_notify(3), sd_watchdog_enabled(3)) until cancelled."""
    if not settings.notify_socket or not settings.watchdog_usec:
        return
    address = settings.notify_socket
    if address.startswith("@"):  # a name of Linux's abstract namespace
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        while True:
            try:
                channel.sendto(b"WATCHDOG=1", address)
            except OSError as error:
                log.warning("cannot notify the watchdog of systemd", reason=str(error))
            await asyncio.sleep(settings.watchdog_usec / 2_000_000)
