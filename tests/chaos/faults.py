"""How each kind of fault is done to an installation, and undone. Blocking; one thread for each fault under way."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from hitcounter.hits import DAY_MS
from hitcounter.indices import index_of
from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.installation import Installation
from tests.chaos.schedule import DAYS, ELASTICSEARCH, Fault, Kind
from tests.support.bulk_faults import Mood
from tests.support.failover import demoted_in_place
from tests.support.full_disk import full_disk

_T = TypeVar("_T")

_PERSIST_SECONDS: Final = 240.0
"""How long a fault is tried to be done, or undone, while what it needs is away by another fault."""
_CLOCK_STEP_SECONDS: Final = 20.0
_SLOW_SECONDS: Final = 0.15
_EXIT_CODES: Final = {Kind.REPLACE_ELASTICSEARCH: (143, -9)}
"""After SIGTERM, where it is not 0: Java's; and a node with a red shard may take longer to stop than we wait for it."""

_SWALLOWED: Final = {
    ("api", "redis"): b"EVALSHA",  # accept
    ("indexer", "redis"): b":dead",  # settle: the only script that is given the dead letters
    ("api", "elasticsearch"): b"_msearch",
    ("indexer", "elasticsearch"): b"_bulk",
    ("clients", "api"): b"POST ",
}


class FaultError(Exception):
    """What a fault hit did not behave as it should, apart from any hit."""


@dataclass(frozen=True)
class Site:
    """Where one fault happens."""

    installation: Installation
    fault: Fault

    @property
    def victim(self) -> str:
        """The name of what it happens to."""
        return self.fault.victim


Inflict = Callable[[Site], AbstractContextManager[None]]


def inflict(installation: Installation, fault: Fault) -> AbstractContextManager[None]:
    """Do the fault at the beginning of the block and undo it at its end.

    Raises:
        FaultError: a part did not take it as it should.
    """
    return _FAULTS[fault.kind](Site(installation, fault))


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _kill(site: Site) -> Iterator[None]:
    part = site.installation.parts[site.victim]
    part.kill()
    try:
        yield
    finally:
        part.start()


@contextlib.contextmanager
def _replace(site: Site) -> Iterator[None]:
    part = site.installation.parts[site.victim]
    status = part.terminate()
    try:
        yield
    finally:
        part.start()
    if status not in _EXIT_CODES.get(site.fault.kind, (0,)):
        raise FaultError(f"{site.victim} ended with exit code {status} after SIGTERM")


@contextlib.contextmanager
def _pause(site: Site) -> Iterator[None]:
    part = site.installation.parts[site.victim]
    part.pause()
    try:
        yield
    finally:
        part.resume()


# ── wires ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _cut(site: Site) -> Iterator[None]:
    wire = site.installation.wires[site.victim]
    wire.refuse()
    try:
        yield
    finally:
        wire.heal()


@contextlib.contextmanager
def _slow(site: Site) -> Iterator[None]:
    wire = site.installation.wires[site.victim]
    wire.delay(_SLOW_SECONDS)
    try:
        yield
    finally:
        wire.heal()


@contextlib.contextmanager
def _blackhole(site: Site) -> Iterator[None]:
    wire = site.installation.wires[site.victim]
    wire.blackhole()
    try:
        yield
    finally:
        wire.heal()


@contextlib.contextmanager
def _swallow(site: Site) -> Iterator[None]:
    near, far = (name.split("-")[0] for name in site.victim.split("/"))
    wire = site.installation.wires[site.victim]
    wire.swallow_answers_to(_SWALLOWED[near, far], times=3)
    try:
        yield
    finally:
        wire.heal()


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _fill_redis(site: Site) -> Iterator[None]:
    with _redis(site) as redis:
        used = int(redis.info("memory")["used_memory"])
        redis.config_set("maxmemory", used // 2)
        try:
            yield
        finally:
            _persist(lambda: redis.config_set("maxmemory", 0))


@contextlib.contextmanager
def _fill_disk_of_redis(site: Site) -> Iterator[None]:
    with full_disk(site.installation.redis):
        yield


@contextlib.contextmanager
def _demote(site: Site) -> Iterator[None]:
    with demoted_in_place(site.installation.redis, site.installation.build_replica()):
        yield


@contextlib.contextmanager
def _set_clock_back(site: Site) -> Iterator[None]:
    clock = site.installation.redis.clock
    clock.set(-_CLOCK_STEP_SECONDS)
    try:
        yield
    finally:
        clock.set(0.0)


@contextlib.contextmanager
def _redis(site: Site) -> Iterator[Redis]:
    with Redis.from_url(site.installation.redis.url, socket_timeout=5.0) as redis:
        yield redis


# ── Elasticsearch ───────────────────────────────────────────────────────────────────────────────────────────────────


def _spoil_bulks(mood: Mood) -> Inflict:
    @contextlib.contextmanager
    def spoil(site: Site) -> Iterator[None]:
        bulk_faults = site.installation.bulk_faults
        bulk_faults.mood = mood
        try:
            yield
        finally:
            bulk_faults.mood = Mood.HONEST

    return spoil


def _block_index(block: str) -> Inflict:
    @contextlib.contextmanager
    def block_index(site: Site) -> Iterator[None]:
        index = _index_of(site)
        name = f"index.blocks.{block}"
        _ask(site, "PUT", f"/{index}/_settings", {name: True})
        try:
            yield
        finally:
            _ask(site, "PUT", f"/{index}/_settings", {name: None})

    return block_index


@contextlib.contextmanager
def _close_index(site: Site) -> Iterator[None]:
    index = _index_of(site)
    _ask(site, "POST", f"/{index}/_close")
    try:
        yield
    finally:
        _ask(site, "POST", f"/{index}/_open")


@contextlib.contextmanager
def _make_red(site: Site) -> Iterator[None]:
    """Take the index its primary shard, as if the disk with its only copy were gone for a while.

    No setting does that to a shard that was started once: Elasticsearch ignores its filters rather than leave a primary
    unassigned whose copy it has.
    """
    index = _index_of(site)
    state = _persist(lambda: _find_shard(site, index)) / "_state"
    hidden = state.with_name("_state.hidden")
    state.rename(hidden)
    try:
        _reroute_until(site, index, is_red=True, command="cancel", allow_primary=True)
        yield
    finally:
        if state.exists():  # written anew: it never became red
            shutil.rmtree(hidden)
        else:
            hidden.rename(state)
        _reroute_until(site, index, is_red=False, command="allocate_stale_primary", accept_data_loss=True)


def _find_shard(site: Site, index: str) -> Path:
    uuid: str = _send(site, "GET", f"/{index}/_settings")[index]["settings"]["index"]["uuid"]
    return site.installation.elasticsearch.data_dir / "data" / "indices" / uuid / "0"


def _reroute_until(site: Site, index: str, *, is_red: bool, command: str, **consent: bool) -> None:
    """Give the command, unless the index is as wanted already: it may have become so by a restart."""

    def reroute() -> None:
        (node,) = _send(site, "GET", "/_nodes/_local?filter_path=nodes.*.name")["nodes"]
        shard = {"index": index, "shard": 0, "node": node, **consent}
        if (_send(site, "GET", f"/_cluster/health/{index}")["status"] == "red") is not is_red:
            _send(site, "POST", "/_cluster/reroute", {"commands": [{command: shard}]})

    _persist(reroute)


@contextlib.contextmanager
def _cut_off_publisher(site: Site) -> Iterator[None]:
    """Cut the indexer that publishes the as-of off from Elasticsearch, for as long as it takes."""
    publisher = _persist(site.installation.find_publisher)
    wire = site.installation.wires[f"{publisher}/{ELASTICSEARCH}"]
    wire.refuse()
    try:
        yield
    finally:
        wire.heal()


def _index_of(site: Site) -> str:
    time_ms = site.installation.begun_ms - DAYS.index(site.victim) * DAY_MS
    return index_of(site.installation.stack.name, time_ms)


def _ask(site: Site, method: str, path: str, body: Mapping[str, object] | None = None) -> None:
    _persist(lambda: _send(site, method, path, body))


def _send(site: Site, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{site.installation.elasticsearch.url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def _persist(action: Callable[[], _T]) -> _T:
    """Do it, again and again while it fails: another fault may be in its way.

    Raises:
        FaultError: it failed for too long.
    """
    deadline = time.monotonic() + _PERSIST_SECONDS
    while True:
        try:
            return action()
        except (OSError, RedisError) as error:
            if time.monotonic() > deadline:
                raise FaultError(f"a fault could not be done or undone: {error}") from error
        time.sleep(0.1)


_FAULTS: Final[Mapping[Kind, Inflict]] = {
    Kind.KILL_API: _kill,
    Kind.KILL_INDEXER: _kill,
    Kind.KILL_REDIS: _kill,
    Kind.KILL_ELASTICSEARCH: _kill,
    Kind.REPLACE_API: _replace,
    Kind.REPLACE_INDEXER: _replace,
    Kind.REPLACE_REDIS: _replace,
    Kind.REPLACE_ELASTICSEARCH: _replace,
    Kind.PAUSE_API: _pause,
    Kind.PAUSE_INDEXER: _pause,
    Kind.PAUSE_REDIS: _pause,
    Kind.PAUSE_ELASTICSEARCH: _pause,
    Kind.CUT: _cut,
    Kind.SLOW: _slow,
    Kind.BLACKHOLE: _blackhole,
    Kind.SWALLOW: _swallow,
    Kind.FILL_REDIS: _fill_redis,
    Kind.FILL_DISK_OF_REDIS: _fill_disk_of_redis,
    Kind.FILL_DISK_OF_ELASTICSEARCH: _block_index("read_only_allow_delete"),  # what it does itself at its flood stage
    Kind.BULKS_PUSHED_BACK: _spoil_bulks(Mood.PUSHED_BACK),
    Kind.BULKS_REFUSED: _spoil_bulks(Mood.REFUSED),
    Kind.BULKS_DENIED: _spoil_bulks(Mood.DENIED),
    Kind.ITEMS_FAILED: _spoil_bulks(Mood.ITEMS_FAILED),
    Kind.ITEMS_DENIED: _spoil_bulks(Mood.ITEMS_DENIED),
    Kind.WRITES_BLOCKED: _block_index("write"),
    Kind.INDEX_CLOSED: _close_index,
    Kind.INDEX_RED: _make_red,
    Kind.INDEX_REFUSED: _spoil_bulks(Mood.INDEX_REFUSED),
    Kind.CUT_OFF_PUBLISHER: _cut_off_publisher,
    Kind.DEMOTE_REDIS: _demote,
    Kind.SET_CLOCK_BACK: _set_clock_back,
}
