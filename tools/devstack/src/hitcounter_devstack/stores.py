"""Chooses the Redis and the Elasticsearch of `run`: a given one, or else one of this machine."""

from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.console import Console, is_elasticsearch_warning, is_redis_warning
from hitcounter_devstack.distributions import (
    ELASTICSEARCH_8,
    ELASTICSEARCH_9,
    ElasticsearchRelease,
    require_elasticsearch,
)
from hitcounter_devstack.elasticsearch import DEFAULT_PORT as ELASTICSEARCH_PORT
from hitcounter_devstack.elasticsearch import ElasticsearchServer
from hitcounter_devstack.java import find_java, require_java
from hitcounter_devstack.ports import hold_port
from hitcounter_devstack.redis import DEFAULT_PORT as REDIS_PORT
from hitcounter_devstack.redis import RedisServer
from hitcounter_devstack.server import Server
from hitcounter_devstack.users import unprivileged_user


@dataclass(frozen=True)
class GivenStore:
    """A store that somebody else runs: we only use it."""

    name: str
    url: str


Store = GivenStore | Server


def choose_redis(url: str | None, folder: Path, console: Console) -> Store:
    """Return the Redis to use, not started yet."""
    if url:
        return GivenStore("redis", url)
    port = choose_port("redis", REDIS_PORT, console)
    return RedisServer(folder / "redis", port=port, on_line=console.lines_of("redis", is_redis_warning))


def choose_elasticsearch(url: str | None, folder: Path, console: Console) -> Store:
    """Return the Elasticsearch to use, not started yet; what it needs is downloaded by now, and maybe installed."""
    if url:
        return GivenStore("elasticsearch", url)
    port = choose_port("elasticsearch", ELASTICSEARCH_PORT, console)
    release = require_release()
    # A folder for each major version: an older one could not read what a newer one wrote.
    data_dir = folder / f"elasticsearch-{release.version.split('.')[0]}"
    on_line = console.lines_of("elasticsearch", is_elasticsearch_warning)
    return ElasticsearchServer(data_dir, release=release, port=port, on_line=on_line)


def require_release() -> ElasticsearchRelease:
    """Return the newest Elasticsearch for which this machine has a Java, with both of them ready to start.

    Raises:
        MissingPartError: none can be had here.
    """
    user = unprivileged_user()
    release = ELASTICSEARCH_8 if find_java(ELASTICSEARCH_9.java, user) is None else ELASTICSEARCH_9
    require_java(release.java, user)
    require_elasticsearch(release)
    return release


def choose_port(name: str, usual: int, console: Console) -> int:
    """Return the usual port of a part, or a free one when it is taken, and say so; it is ours until we end."""
    port = hold_port(usual)
    if port != usual:
        console.say(f"port {usual} is taken: {name} gets {console.strong(str(port))}")
    return port
