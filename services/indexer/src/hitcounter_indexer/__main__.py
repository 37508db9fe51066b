"""The command hitcounter-indexer: reads the settings, creates all objects and runs them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass

import uvloop
from hitcounter import __version__
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import ConfigurationError, HitcounterError
from hitcounter.health import Readiness, serve_management
from hitcounter.logs import configure_logging, get_logger
from hitcounter.metrics import create_registry
from hitcounter.settings import TracingSettings, exit_for, load_settings_or_exit, variable_name
from hitcounter.stream import HitStream, open_stream

from hitcounter_indexer import commands
from hitcounter_indexer.as_of import AsOfPublisher
from hitcounter_indexer.conditions import ELASTICSEARCH, REDIS
from hitcounter_indexer.entry_writer import Observer
from hitcounter_indexer.housekeeping import ClockFault, Housekeeping, apply_retention
from hitcounter_indexer.indexer import Indexer
from hitcounter_indexer.metrics import create_metrics
from hitcounter_indexer.redis_watch import watch_redis
from hitcounter_indexer.settings import IndexerSettings
from hitcounter_indexer.sink import ElasticsearchSink

_STUCK_AFTER_SECONDS = 120.0
"""Longer than any single step may take (including the timeout of a bulk), so that only a hung process is restarted."""

_ABANDON_SECONDS = 2.0

log = get_logger()


@dataclass(frozen=True)
class Stores:
    """The connections to Redis and Elasticsearch."""

    stream: HitStream
    indices: Indices
    sink: ElasticsearchSink


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exit status: 0 done, 1 failed or the audit found a difference, 2 invalid settings."""
    options = _build_parser().parse_args(arguments)
    settings = load_settings_or_exit(IndexerSettings)
    configure_logging(settings.log, "indexer")
    try:
        status = uvloop.run(_build_action(options, settings))
    except ConfigurationError as error:
        exit_for(error)
    except HitcounterError as error:
        sys.stderr.write(f"{error}\n")
        status = 1
    raise SystemExit(status)


def _build_action(options: argparse.Namespace, settings: IndexerSettings) -> Coroutine[None, None, int]:
    if options.action == "audit":
        return _audit(settings)
    if options.action == "retention":
        return _retention(settings, is_dry_run=options.dry_run)
    if options.action == "dead-letters":
        return _dead_letters(settings, options.letters_action, getattr(options, "letter", ""))
    if options.action == "entries":
        return _entries(settings, options)
    return _run(settings)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-indexer",
        description="Reads hits from the Redis stream and writes them to Elasticsearch. "
        "Settings are environment variables: docs/configuration.md.",
    )
    parser.add_argument("--version", action="version", version=f"hitcounter-indexer {__version__}")
    actions = parser.add_subparsers(dest="action", metavar="COMMAND")
    actions.add_parser("run", help="index until stopped (the default)")
    actions.add_parser("audit", help="compare the ledger with the entries in the stream; exit 1 if they differ")
    retention = actions.add_parser(
        "retention", help="delete expired indices; exit 1 if a clock may be wrong, without deleting"
    )
    retention.add_argument("--dry-run", action="store_true", help="only print which indices would be deleted")
    _add_dead_letters(actions.add_parser("dead-letters", help="show, replay or discard hits that were not indexed"))
    _add_entries(actions.add_parser("entries", help="show entries that wait too long, or reject one"))
    parser.set_defaults(action="run")
    return parser


def _add_dead_letters(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="letters_action", metavar="COMMAND", required=True)
    actions.add_parser("list", help="print one line for each dead letter, oldest first")
    actions.add_parser("show", help="print one dead letter as JSON").add_argument("letter", help="its id")
    replay = actions.add_parser("replay", help="move one or all dead letters back into the backlog")
    replay.add_argument("letter", help=f"its id, or {commands.ALL}")
    discard = actions.add_parser("discard", help="delete a dead letter permanently; its hits still count as dead")
    discard.add_argument("letter", help="its id")


def _add_entries(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="entries_action", metavar="COMMAND", required=True)
    listing = actions.add_parser("list", help="print one line for each entry that is in flight for long, and why")
    listing.add_argument("--older-than", type=float, default=60.0, metavar="SECONDS", help="minimum age (default: 60)")
    reject = actions.add_parser("reject", help="make an entry in flight a dead letter, so that nothing waits for it")
    reject.add_argument("entry", help="its id")


@contextlib.asynccontextmanager
async def _open_stores(settings: IndexerSettings) -> AsyncIterator[Stores]:
    async with open_stream(settings.redis) as stream, open_client(settings.elasticsearch) as client:
        indices = Indices(client, settings.elasticsearch.index_prefix, settings.index)
        sink = ElasticsearchSink(client, indices, request_timeout_seconds=settings.elasticsearch.timeout_seconds)
        yield Stores(stream, indices, sink)


async def _run(settings: IndexerSettings) -> int:
    with open_observer(settings.tracing) as observer:
        await _index(settings, observer)
    return 0


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

        from hitcounter_indexer.tracing import TracingObserver
    except ImportError as error:
        raise ConfigurationError(
            f"{variable_name('tracing', 'enabled')}: traces need the extra `tracing` of hitcounter-indexer: {error}"
        ) from error
    with open_tracer("indexer", settings, sample_ratio=0) as tracer:
        yield TracingObserver(tracer)


async def _index(settings: IndexerSettings, observer: Observer | None) -> None:
    registry = create_registry("indexer")
    readiness = Readiness(REDIS, ELASTICSEARCH)
    metrics = create_metrics(registry)
    consumer = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    async with _open_stores(settings) as stores:
        indexer = Indexer(
            consumer=consumer,
            stream=stores.stream.consumer,
            sink=stores.sink,
            indices=stores.indices,
            settings=settings.indexer,
            metrics=metrics,
            readiness=readiness,
            observer=observer,
        )
        publisher = AsOfPublisher(
            stores.stream.as_of,
            stores.indices,
            indexer.conditions,
            name=consumer,
            interval_ms=settings.indexer.as_of_interval_ms,
        )

        def is_alive() -> bool:
            return (
                time.monotonic() - indexer.lifecycle.last_heartbeat
                < _STUCK_AFTER_SECONDS + settings.elasticsearch.timeout_seconds
            )

        async with serve_management(settings.management, registry, readiness, is_alive):
            log.info("started", version=__version__, consumer=consumer)
            housekeeping = Housekeeping(
                stores.stream,
                stores.indices,
                indexer.conditions,
                metrics,
                name=consumer,
            )
            watching = [
                asyncio.create_task(housekeeping.run(), name="housekeeping"),
                asyncio.create_task(watch_redis(stores.stream.monitor, readiness), name="Redis watch"),
            ]
            try:
                await _work_until_signalled(indexer, publisher, settings.indexer.drain_seconds)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.wait(watching)
            log.info("stopped", consumer=consumer)


async def _work_until_signalled(indexer: Indexer, publisher: AsOfPublisher, drain_seconds: float) -> None:
    """Run until SIGTERM or SIGINT, then finish the bulks in progress; a second signal stops at once."""
    signalled, forced = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (forced if signalled.is_set() else signalled).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    working = asyncio.create_task(indexer.run(), name="indexer")
    publishing = asyncio.create_task(publisher.run(), name="as-of publisher")
    stop_requested = asyncio.create_task(signalled.wait())
    await asyncio.wait([working, publishing, stop_requested], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping: finishing the bulks under way")
    indexer.stop()
    force_requested = asyncio.create_task(forced.wait())
    await asyncio.wait([working, force_requested], timeout=drain_seconds, return_when=asyncio.FIRST_COMPLETED)
    if not working.done() and not forced.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_SECONDS):
                await indexer.abandon()
    publisher.stop()
    await asyncio.wait([publishing, force_requested], timeout=2.0, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, publishing, stop_requested, force_requested):
        task.cancel()
    results = await asyncio.gather(working, publishing, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _audit(settings: IndexerSettings) -> int:
    async with open_stream(settings.redis) as stream:
        audit = await stream.monitor.audit()
    ledger = audit.after
    rows = {
        "accepted": ledger.accepted,
        "indexed": ledger.indexed,
        "duplicate": ledger.duplicate,
        "dead": ledger.dead,
        "backlog": ledger.backlog,
        "in the stream": audit.stream_hits,
        "in dead letters": audit.dead_hits,
        "difference": audit.difference,
    }
    for name, hits in rows.items():
        sys.stdout.write(f"{name:>16} {hits:>18,} hits\n")
    if not audit.is_exact:
        sys.stdout.write("The stream changed during the scan; the difference excludes these changes.\n")
    sys.stdout.write("The ledger and the stream agree.\n" if audit.difference == 0 else "They do NOT agree.\n")
    return 0 if audit.difference == 0 else 1


async def _dead_letters(settings: IndexerSettings, action: str, letter_id: str) -> int:
    async with open_stream(settings.redis) as stream:
        if action == "list":
            return await commands.list_dead_letters(stream.dead_letters)
        if action == "show":
            return await commands.show_dead_letter(stream.dead_letters, letter_id)
        if action == "replay":
            return await commands.replay_dead_letters(stream.dead_letters, letter_id)
        return await commands.discard_dead_letter(stream.dead_letters, letter_id)


async def _entries(settings: IndexerSettings, options: argparse.Namespace) -> int:
    async with open_stream(settings.redis) as stream:
        if options.entries_action == "list":
            return await commands.list_entries(stream, older_than_seconds=options.older_than)
        return await commands.reject_entry(stream, options.entry)


async def _retention(settings: IndexerSettings, *, is_dry_run: bool) -> int:
    async with _open_stores(settings) as stores:
        try:
            report = await apply_retention(stores.stream, stores.indices, is_dry_run=is_dry_run)
        except ClockFault as fault:
            sys.stderr.write(f"nothing was deleted: {fault}; correct the clocks, then run it again\n")
            return 1
    for index in report.dropped:
        sys.stdout.write(f"{'would delete' if is_dry_run else 'deleted'} {index}\n")
    for index in report.unexpired:
        sys.stdout.write(f"kept {index}: it has not expired by the clock of Elasticsearch\n")
    sys.stdout.write(f"{len(report.dropped)} deleted, {report.kept} kept\n")
    return 1 if report.unexpired else 0


if __name__ == "__main__":
    main()
