"""The command hitcounter-api: reads the settings, creates all objects and runs the server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import re
import resource
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from hitcounter import __version__
from hitcounter.codec import PRODUCER_BYTES
from hitcounter.elastic import open_client
from hitcounter.entries import Durability
from hitcounter.errors import ConfigurationError, HitcounterError
from hitcounter.health import EmbeddedServer, Readiness, format_address, open_socket, serve_management
from hitcounter.logs import configure_logging, get_logger
from hitcounter.metrics import QueueMetrics, create_registry
from hitcounter.scaling import Policy
from hitcounter.settings import TracingSettings, exit_for, load_settings_or_exit, variable_name
from hitcounter.stream import StreamProducer, open_stream
from prometheus_client import CollectorRegistry
from uvicorn import Config

from hitcounter_api.access import Access
from hitcounter_api.app import create_app
from hitcounter_api.counts import CountReader
from hitcounter_api.intake import Intake, Intakes
from hitcounter_api.keys import InvalidKeys
from hitcounter_api.keys_command import add_parser, run_key_command
from hitcounter_api.keys_file import KeysFile
from hitcounter_api.listeners import Observer
from hitcounter_api.metrics import ApiMetrics, create_metrics
from hitcounter_api.queue_watch import REDIS, QueueWatch
from hitcounter_api.reads import Reads
from hitcounter_api.settings import AccessSettings, ApiSettings, HttpSettings, IntakeSettings, WatchdogSettings
from hitcounter_api.watchdog import feed_watchdog

try:
    import uvloop

    from hitcounter_api.protocol import ApiProtocol
except ImportError as error:  # uvicorn would run without them, at a third of the speed
    raise SystemExit(f"hitcounter-api needs uvloop and httptools: {error}") from error

DRAINING: Final = "draining"
FILES_BESIDE_CONNECTIONS: Final = 512
"""Open files that are not client connections: those to Redis and Elasticsearch, the management port, and a few more."""

_USER_IN_URL = re.compile(r"//[^/@]+@")

log = get_logger()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exit status: 0 stopped by a signal, 1 failed, 2 invalid settings."""
    options = _build_parser().parse_args(arguments)
    settings = load_settings_or_exit(ApiSettings)
    if options.print_config:
        sys.stdout.writelines(f"{line}\n" for line in _describe(settings.model_dump(mode="json")))
        return
    if options.command == "key":
        _run_key_command(options, settings)
        return
    configure_logging(settings.log, "api")
    try:
        uvloop.run(run(settings))
    except ConfigurationError as error:
        exit_for(error)
    except HitcounterError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def _run_key_command(options: argparse.Namespace, settings: ApiSettings) -> None:
    try:
        run_key_command(options, settings.access.keys_file)
    except (ConfigurationError, InvalidKeys) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-api",
        description="HTTP API: adds hits to the Redis stream and returns counts from Elasticsearch. "
        "Settings are environment variables: docs/configuration.md.",
    )
    parser.add_argument("--version", action="version", version=f"hitcounter-api {__version__}")
    parser.add_argument(
        "--print-config", action="store_true", help="print the current settings, without secrets, and exit"
    )
    add_parser(parser)
    return parser


def _describe(values: Mapping[str, Any], *path: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _describe(value, *path, name)
        else:
            shown = "" if value is None else _USER_IN_URL.sub("//**********@", str(value))
            yield f"{variable_name(*path, name)}={shown}"


async def run(settings: ApiSettings) -> None:
    """Serve until a signal arrives.

    Raises:
        ConfigurationError: a port cannot be opened.
    """
    registry = create_registry("api")
    readiness = Readiness(REDIS)
    http = settings.http
    with open_socket(http.host, http.port, "http", reuse_port=http.reuse_port) as listener:
        feeding = asyncio.create_task(feed_watchdog(WatchdogSettings()), name="systemd's watchdog")
        try:
            async with serve_management(settings.management, registry, readiness):
                await _serve(settings, listener, registry, readiness)
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])


def _url_of(settings: ApiSettings) -> str:
    return f"http://{format_address(settings.http.host, settings.http.port)}"


async def _serve(
    settings: ApiSettings, listener: socket.socket, registry: CollectorRegistry, readiness: Readiness
) -> None:
    """Serve on the socket until a signal arrives. At the end every accepted hit has its response."""
    allow_open_files(settings.http.max_connections)
    async with _open_server(settings, registry, readiness) as server:

        def drain() -> None:
            readiness.set_problem(DRAINING, "this process is stopping")
            server.should_exit = True

        _on_signal(drain)
        # All objects that exist now stay until the end. Without the freeze, a full garbage collection would scan them
        # again and block all responses for 25 ms.
        gc.collect()
        gc.freeze()
        log.info("started", version=__version__, url=_url_of(settings))
        await server.serve(sockets=[listener])
    log.info("stopped")


@contextlib.asynccontextmanager
async def _open_server(
    settings: ApiSettings, registry: CollectorRegistry, readiness: Readiness
) -> AsyncIterator[EmbeddedServer]:
    """Create the API, and watch Redis while the block runs. At its end every accepted hit has its response."""
    metrics = create_metrics(registry)
    async with contextlib.AsyncExitStack() as stack:
        observer = stack.enter_context(open_observer(settings.tracing))
        keys_file = open_keys_file(settings.access, metrics, readiness)
        stream = await stack.enter_async_context(open_stream(settings.redis))
        client = await stack.enter_async_context(
            open_client(settings.elasticsearch, connections=settings.reads.max_concurrent)
        )
        intakes = _build_intakes(stream.producer, metrics, settings.intake, observer)
        watch = QueueWatch(stream.monitor, QueueMetrics(registry), readiness, Policy(**settings.scaling.model_dump()))
        reader = CountReader(
            client, settings.elasticsearch.index_prefix, timeout_seconds=settings.reads.timeout_seconds
        )
        reads = Reads(
            reader,
            watch,
            metrics,
            max_concurrent=settings.reads.max_concurrent,
            max_wait_seconds=settings.reads.timeout_seconds / 2,
            remembered_ids=settings.reads.remembered_ids,
        )
        app = create_app(
            intakes=intakes,
            reads=reads,
            watch=watch,
            metrics=metrics,
            max_batch_requests=settings.intake.batch_requests,
            has_page=settings.http.page,
            observer=observer,
            access=None if keys_file is None else Access(keys_file),
        )
        tasks = [asyncio.create_task(watch.run(), name="queue watch")]
        if keys_file is not None:
            tasks.append(asyncio.create_task(keys_file.run(), name="keys file"))
        try:
            yield EmbeddedServer(build_config(app, settings.http))
            await intakes.drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def open_keys_file(settings: AccessSettings, metrics: ApiMetrics, readiness: Readiness) -> KeysFile | None:
    """Return the keys file; None in mode open.

    Raises:
        ConfigurationError: there are no valid keys to start with.
    """
    if settings.mode == "open":
        return None
    variable = variable_name("access", "keys_file")
    if settings.keys_file is None:
        raise ConfigurationError(f"{variable}: must be set, because {variable_name('access', 'mode')} is keys")
    try:
        return KeysFile(settings.keys_file, metrics, readiness)
    except InvalidKeys as error:
        raise ConfigurationError(f"{variable}: {error}") from error


@contextlib.contextmanager
def open_observer(settings: TracingSettings) -> Iterator[Observer | None]:
    """Return the observer that creates spans, which are exported while the block runs; None if tracing is disabled.

    Raises:
        ConfigurationError: tracing is enabled, and the extra `tracing` is not installed.
    """
    if not settings.enabled:
        yield None
        return
    try:
        # Imported only if needed: it takes time to load, and some megabytes of memory.
        from hitcounter.tracing import open_tracer

        from hitcounter_api.tracing import TracingObserver
    except ImportError as error:
        raise ConfigurationError(
            f"{variable_name('tracing', 'enabled')}: traces need the extra `tracing` of hitcounter-api: {error}"
        ) from error
    with open_tracer("api", settings, sample_ratio=settings.sample_ratio) as tracer:
        yield TracingObserver(tracer, sample_ratio=settings.sample_ratio)


def _build_intakes(
    stream: StreamProducer, metrics: ApiMetrics, settings: IntakeSettings, observer: Observer | None
) -> Intakes:
    budgets = {Durability.MEMORY: settings.budget_seconds, Durability.DISK: settings.disk_budget_seconds}
    intakes = {
        durability: Intake(
            stream,
            metrics,
            producer=secrets.token_bytes(PRODUCER_BYTES),
            limit=settings.limit,
            budget_seconds=budget_seconds,
            durability=durability,
            observer=observer,
        )
        for durability, budget_seconds in budgets.items()
    }
    return Intakes(intakes, settings.durability)


def allow_open_files(connections: int) -> None:
    """Raise the soft limit of open files to fit the connections: container runtimes often leave it at 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES_BESIDE_CONNECTIONS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        log.warning(
            "the hard limit of open files is lower than what this many connections need",
            setting=variable_name("http", "max_connections"),
            connections=connections,
            open_files=possible,
        )


def build_config(app: Any, settings: HttpSettings) -> Config:
    """Return the configuration of uvicorn: without access log, server header and WebSockets."""
    return Config(
        app,
        http=ApiProtocol,
        interface="asgi3",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        date_header=True,  # RFC 9110, 6.6.1: a server with a clock must send it
        server_header=False,
        limit_concurrency=settings.max_connections,  # our protocol uses it as a limit of connections only
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.drain_seconds,
    )


def _on_signal(drain: Callable[[], None]) -> None:
    """Drain at the first SIGTERM or SIGINT. The second one has the default action, which ends the process at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def on_first() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        log.info("draining: requests in progress finish, new hits are refused")
        drain()

    for number in numbers:
        loop.add_signal_handler(number, on_first)


if __name__ == "__main__":
    main()
