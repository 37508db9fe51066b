"""The command hitcounter-devstack: run everything, run only the stores, fetch what is needed, list what is missing."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hitcounter_devstack.checkout import (
    API_PORT,
    Services,
    build_prometheus,
    build_services,
    default_data_folder,
    only_stack_in,
)
from hitcounter_devstack.console import Console
from hitcounter_devstack.doctor import can_run, examine, fetch_all, print_findings
from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.errors import DevstackError
from hitcounter_devstack.part import Part
from hitcounter_devstack.prometheus import PrometheusServer
from hitcounter_devstack.run import RunningStack, run_until_stopped
from hitcounter_devstack.server import Server
from hitcounter_devstack.stores import Store, choose_elasticsearch, choose_redis

INTERRUPTED = 130  # what a shell reports for Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 0, 1 (something failed or is missing) or 130 (interrupted before it began)."""
    options = _build_parser().parse_args(arguments)
    console = Console()
    _interrupt_on_signals()
    try:
        status = _ACTIONS[options.action](options, console)
    except DevstackError as error:
        console.say(str(error))
        status = 1
    except KeyboardInterrupt:
        console.say("stopped")
        status = INTERRUPTED
    raise SystemExit(status)


def _build_parser() -> argparse.ArgumentParser:
    environment = inherited_environment()
    parser = argparse.ArgumentParser(prog="hitcounter-devstack", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    run = actions.add_parser("run", help="run Redis, Elasticsearch, one API and one indexer until stopped")
    servers = actions.add_parser("servers", help="run only Redis and Elasticsearch until stopped")
    for command in (run, servers):
        command.add_argument("--data", type=Path, default=default_data_folder(), help="where data and logs are kept")
        for store in ("redis", "elasticsearch"):
            variable = f"HITCOUNTER_{store.upper()}__URL"
            help_ = f"use this one and start none; or {variable}"
            command.add_argument(f"--{store}-url", metavar="URL", default=environment.get(variable), help=help_)
    port = environment.get("HITCOUNTER_HTTP__PORT") or API_PORT
    run.add_argument("--api-port", type=int, default=port, help=f"default {API_PORT}; or HITCOUNTER_HTTP__PORT")
    run.add_argument("--observe", action="store_true", help="also run a Prometheus with the rules of the chart")
    actions.add_parser("setup", help="fetch everything that run and the tests need")
    actions.add_parser("doctor", help="list what this machine has, and how to get what is missing")
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    folder = options.data.absolute()
    with only_stack_in(folder):
        redis, elasticsearch = _choose_stores(options, folder, console)
        services = build_services(redis, elasticsearch, options.api_port, folder, console)
        observer = build_prometheus(services, folder, console) if options.observe else None
        parts: list[Part] = [services.api, services.indexer, *_ours(redis, elasticsearch)]
        if observer is not None:
            parts.insert(0, observer)

        def announce(seconds: float) -> None:
            console.say(console.strong(f"ready in {seconds:.1f} s") + ", Ctrl-C stops it")
            _print_urls(console, folder, services, redis, elasticsearch, observer)

        return run_until_stopped(_stack(parts, console), console, announce)


def _servers(options: argparse.Namespace, console: Console) -> int:
    folder = options.data.absolute()
    with only_stack_in(folder):
        redis, elasticsearch = _choose_stores(options, folder, console)

        def announce(seconds: float) -> None:
            console.say(console.strong(f"ready in {seconds:.1f} s") + ", Ctrl-C stops them; for the other parts:")
            console.add(f"export HITCOUNTER_REDIS__URL={redis.url}")
            console.add(f"export HITCOUNTER_ELASTICSEARCH__URL={elasticsearch.url}")
            console.add("export HITCOUNTER_INDEX__REPLICAS=0")

        return run_until_stopped(_stack(_ours(redis, elasticsearch), console), console, announce)


def _setup(_options: argparse.Namespace, console: Console) -> int:
    fetch_all(console)
    return _doctor(_options, console)


def _doctor(_options: argparse.Namespace, console: Console) -> int:
    findings = examine()
    print_findings(findings, console)
    return 0 if can_run(findings) else 1


_ACTIONS = {"run": _run, "servers": _servers, "setup": _setup, "doctor": _doctor}


def _choose_stores(options: argparse.Namespace, folder: Path, console: Console) -> tuple[Store, Store]:
    redis = choose_redis(options.redis_url, folder, console)
    return redis, choose_elasticsearch(options.elasticsearch_url, folder, console)


def _ours(*stores: Store) -> list[Part]:
    return [store for store in stores if isinstance(store, Server)]


def _stack(parts: Sequence[Part], console: Console) -> RunningStack:
    # A killed make leaves us behind: its end is ours. A shell's is not: people put commands into the background.
    is_from_make = "MAKELEVEL" in inherited_environment()
    return RunningStack(parts, console, parent=os.getppid() if is_from_make else None)


def _print_urls(
    console: Console,
    folder: Path,
    services: Services,
    redis: Store,
    elasticsearch: Store,
    observer: PrometheusServer | None,
) -> None:
    api = f"http://localhost:{services.api_port}"
    rows = {
        "API": f"{api}  (a page for you; documentation: {api}/docs)",
        "API management": services.api.ready_url.replace("/readyz", "/metrics"),
        "indexer management": services.indexer.ready_url.replace("/readyz", "/metrics"),
        "Redis": redis.url,
        "Elasticsearch": elasticsearch.url,
        "data and full logs": str(folder),
    }
    if observer is not None:
        rows["Prometheus"] = observer.alerts_url
    for name, url in rows.items():
        console.add(f"{name:<20}{url}")
    console.add("count a hit, then read the counts:")
    console.add(f"""  curl -i -XPOST localhost:{services.api_port}/analytics -d '{{"id":"1"}}'""")
    console.add(f"  curl localhost:{services.api_port}/analytics/1")


def _interrupt_on_signals() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell starts background commands with it ignored. An ignored SIGHUP, though, is the wish of nohup.
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


if __name__ == "__main__":
    main(sys.argv[1:])
