"""Our two services, run from this checkout, and the lock that allows only one stack per checkout."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hitcounter_devstack.console import Console
from hitcounter_devstack.environment import checkout
from hitcounter_devstack.errors import DataInUseError
from hitcounter_devstack.ports import LOCALHOST
from hitcounter_devstack.prometheus import DEFAULT_PORT as PROMETHEUS_PORT
from hitcounter_devstack.prometheus import PrometheusServer
from hitcounter_devstack.services import Service, command_path
from hitcounter_devstack.stores import GivenStore, Store, choose_port

API_PORT = 8001
API_MANAGEMENT_PORT = 8081
INDEXER_MANAGEMENT_PORT = 8082


@dataclass(frozen=True)
class Services:
    """Our own parts, not started yet, and where the API will be."""

    api: Service
    indexer: Service
    api_port: int


def default_data_folder() -> Path:
    """Return `.data` in the checkout whose .venv we run from, or in the current folder outside of one."""
    return checkout() / ".data"


def build_prometheus(services: Services, folder: Path, console: Console) -> PrometheusServer:
    """Return a Prometheus that scrapes our parts by the rules of the chart, on the usual port or on a free one."""
    services_by_name = {service.name: service for service in (services.api, services.indexer)}
    return PrometheusServer(
        folder / "prometheus",
        targets={name: [urlsplit(service.ready_url).netloc] for name, service in services_by_name.items()},
        rules=sorted(checkout().glob("charts/hitcounter/files/rules/*.yaml")),
        port=choose_port("prometheus", PROMETHEUS_PORT, console),
        on_line=console.lines_of("prometheus"),
    )


@contextlib.contextmanager
def only_stack_in(folder: Path) -> Iterator[None]:
    """Be the one stack that works with this data folder.

    Raises:
        DataInUseError: another one runs; names its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stack.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataInUseError(
                f"hitcounter already runs on {folder} (process {lock.read().strip()}): stop that one first, or use "
                "another folder with --data"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def build_services(redis: Store, elasticsearch: Store, api_port: int, folder: Path, console: Console) -> Services:
    """Return the API and the indexer for these stores, on the usual ports or on free ones."""
    environment = {
        "HITCOUNTER_REDIS__URL": redis.url,
        "HITCOUNTER_ELASTICSEARCH__URL": elasticsearch.url,
        "HITCOUNTER_LOG__FORMAT": "text",
    }
    if not isinstance(elasticsearch, GivenStore):
        environment["HITCOUNTER_INDEX__REPLICAS"] = "0"  # one node has no place for a replica
    port = choose_port("the API", api_port, console)

    def build(name: str, management_port: int, **more: str) -> Service:
        management = choose_port(f"the management port of the {name}", management_port, console)
        return Service(
            [command_path(f"hitcounter-{name}")],
            name=name,
            log_file=folder / "logs" / f"{name}.log",
            ready_url=f"http://{LOCALHOST}:{management}/readyz",
            environment={**environment, "HITCOUNTER_MANAGEMENT__PORT": str(management), **more},
            on_line=console.lines_of(name),
        )

    api = build("api", API_MANAGEMENT_PORT, HITCOUNTER_HTTP__PORT=str(port), HITCOUNTER_HTTP__PAGE="true")
    return Services(api, build("indexer", INDEXER_MANAGEMENT_PORT), port)
