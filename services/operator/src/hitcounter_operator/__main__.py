"""The command hitcounter-operator: reads the settings, creates all objects and runs them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final

import uvloop
from hitcounter import __version__
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import ConfigurationError, HitcounterError
from hitcounter.health import Readiness, serve_management
from hitcounter.logs import configure_logging, get_logger
from hitcounter.metrics import create_registry
from hitcounter.settings import exit_for, load_settings_or_exit
from hitcounter.stream import open_stream

from hitcounter_operator.autoscaler import Autoscaler, Clock
from hitcounter_operator.cluster import Cluster
from hitcounter_operator.events import Recorder
from hitcounter_operator.index_check import IndexCheck
from hitcounter_operator.lease import Lease
from hitcounter_operator.loop import KUBERNETES, LEASE, Loop, Pace, Parts
from hitcounter_operator.metrics import OperatorMetrics, create_metrics
from hitcounter_operator.queue_check import QueueCheck
from hitcounter_operator.settings import OperatorSettings
from hitcounter_operator.watch import Watch

_LEASE_SECONDS_AT_LEAST: Final = 15.0
_LEASE_INTERVALS: Final = 4
"""The lease lasts this many intervals: a holder that is later loses it."""
_LAST_TURN_SECONDS: Final = 10.0

log = get_logger()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exit status: 0 stopped by a signal, 1 failed, 2 invalid settings."""
    _build_parser().parse_args(arguments)
    settings = load_settings_or_exit(OperatorSettings)
    configure_logging(settings.log, "operator")
    try:
        uvloop.run(_run(settings))
    except ConfigurationError as error:
        exit_for(error)
    except HitcounterError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-operator",
        description="Manages one installation in Kubernetes: its queue, its indices and the number of its indexers. "
        "Settings are environment variables (docs/configuration.md). The desired state is a HitCounter resource "
        "(docs/operator.md).",
    )
    parser.add_argument("--version", action="version", version=f"hitcounter-operator {__version__}")
    return parser


async def _run(settings: OperatorSettings) -> None:
    registry = create_registry("operator")
    metrics = create_metrics(registry)
    readiness = Readiness(KUBERNETES, LEASE)
    section, clock = settings.operator, Clock()
    pace = Pace(section.interval_seconds, section.care_interval_seconds)
    async with _open_parts(settings, metrics, clock) as parts:
        loop = Loop(section.name, parts, pace, settings.index.retention_days, metrics, readiness, clock)
        async with serve_management(settings.management, registry, readiness, loop.is_alive):
            log.info("started", version=__version__, namespace=section.namespace, hitcounter=section.name)
            await _work_until_signalled(loop, section.namespace)
            log.info("stopped")


@contextlib.asynccontextmanager
async def _open_parts(settings: OperatorSettings, metrics: OperatorMetrics, clock: Clock) -> AsyncIterator[Parts]:
    section = settings.operator
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    seconds = max(_LEASE_SECONDS_AT_LEAST, _LEASE_INTERVALS * section.interval_seconds)
    async with (
        open_stream(settings.redis) as stream,
        open_client(settings.elasticsearch) as client,
        contextlib.aclosing(Cluster(section.namespace)) as cluster,
    ):
        lease = Lease(cluster, name=f"{section.name}-operator", identity=identity, seconds=seconds)
        yield Parts(
            cluster=cluster,
            lease=lease,
            recorder=Recorder(cluster, metrics, identity=identity),
            queue=QueueCheck(stream.monitor, stream.consumer),
            index=IndexCheck(Indices(client, settings.elasticsearch.index_prefix, settings.index)),
            autoscaler=Autoscaler(section.name, cluster, lease, metrics, clock),
        )


async def _work_until_signalled(loop: Loop, namespace: str) -> None:
    """Run until SIGTERM or SIGINT, then finish the current turn and release the lease."""
    signalled = asyncio.Event()
    events = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        events.add_signal_handler(number, signalled.set)

    def wake() -> None:
        events.call_soon_threadsafe(loop.wake)

    watch = Watch(namespace, loop.name, wake)
    watch.start()
    working = asyncio.create_task(loop.run(), name="loop")
    stop_requested = asyncio.create_task(signalled.wait())
    await asyncio.wait([working, stop_requested], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping")
    watch.stop()
    loop.stop()
    await asyncio.wait([working], timeout=_LAST_TURN_SECONDS)
    for task in (working, stop_requested):
        task.cancel()
    await asyncio.wait([working, stop_requested])
    if not working.cancelled():
        working.result()


if __name__ == "__main__":
    main()
