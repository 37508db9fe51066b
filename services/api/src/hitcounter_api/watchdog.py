"""systemd's watchdog: it is told that the event loop turns, and replaces a process that falls silent.

Where there are pods, Kubernetes asks /livez instead; there systemd's variables are not set, and nothing is sent.
"""

from __future__ import annotations

import asyncio
import socket

from hitcounter.logs import get_logger

from hitcounter_api.settings import WatchdogSettings

log = get_logger()


async def feed_watchdog(settings: WatchdogSettings) -> None:
    """Say so twice in each period (sd_notify(3), sd_watchdog_enabled(3)) until cancelled."""
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
                log.warning("systemd's watchdog cannot be told", reason=str(error))
            await asyncio.sleep(settings.watchdog_usec / 2_000_000)
