"""The bundled Redis, and Valkey in its place, run for real with the rendered configuration.

Each part may do what it does, and nothing else.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hitcounter.codec import HitBatch
from hitcounter.entries import DeadLetter, Durability, Settlement
from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import IndexerWork
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer, find_redis, find_valkey
from hitcounter_devstack.redis_binaries import redis_version
from hitcounter_devstack.server import Command
from pydantic import SecretStr

from tests.chart.rendering import Case, render
from tests.consistency.test_redis_users import METHODS

PASSWORDS = {"api": 'it\'s "odd" $(x) \\ß', "indexer": "indexer-password", "operator": "operator-password"}
VALUES = {"redis": {"auth": {"enabled": True, **{f"{name}Password": password for name, password in PASSWORDS.items()}}}}

Call = Callable[[HitStream], Awaitable[object]]


def batch(sequence: int) -> HitBatch:
    return HitBatch(b"a producer..", sequence, ["a"], [time.time_ns() // 1_000_000])


async def add_and_read(stream: HitStream) -> str:
    """Leave one entry in flight, and return its id."""
    await stream.consumer.ensure_group()
    (entry,) = await stream.consumer.read("c", count=1, block_ms=100)
    return entry.entry_id


async def settle_as_dead(stream: HitStream) -> None:
    entry_id = await add_and_read(stream)
    letter = DeadLetter(reason="r", detail="d", hits=1, payload=b"p")
    assert await stream.consumer.settle([Settlement(entry_id, dead_letters=[letter])]) == [entry_id]


async def publish(stream: HitStream) -> None:
    sample = await stream.as_of.sample("me", lease_ms=10_000)
    assert sample is not None
    assert await stream.as_of.publish(sample)
    assert await stream.as_of.find_publisher() == "me"


async def go_through_dead_letters(stream: HitStream) -> None:
    await settle_as_dead(stream)
    (letter,) = await stream.dead_letters.list_page()
    assert await stream.dead_letters.find(letter.letter_id)
    assert await stream.dead_letters.replay(letter.letter_id)
    await settle_as_dead(stream)
    (letter,) = await stream.dead_letters.list_page()
    assert await stream.dead_letters.discard(letter.letter_id)


async def renew(stream: HitStream) -> None:
    await stream.consumer.renew("c", [await add_and_read(stream)])


async def find_pending(stream: HitStream) -> None:
    entry_id = await add_and_read(stream)
    assert await stream.consumer.find_pending([entry_id]) == {entry_id}


async def hand_over(stream: HitStream) -> None:
    await stream.consumer.hand_over("c", [await add_and_read(stream)], idle_ms=1)


async def read_and_leave(stream: HitStream) -> None:
    await add_and_read(stream)
    assert not await stream.consumer.leave("c")  # something is pending
    assert await stream.consumer.leave("d")


async def list_and_find(stream: HitStream) -> None:
    entry_id = await add_and_read(stream)
    assert [pending.entry_id for pending in await stream.monitor.list_pending()] == [entry_id]
    assert await stream.monitor.find_entry(entry_id)


async def append_twice(stream: HitStream) -> None:
    """Its answer was lost, perhaps: the script's other branch."""
    for _ in range(2):
        await stream.producer.append(batch(2), timeout_seconds=2.0)


BY_API: dict[str, Call] = {
    "producer.append again": append_twice,
    "producer.append": lambda stream: stream.producer.append(batch(2), timeout_seconds=2.0),
    "producer.append to the disk": lambda stream: stream.producer.append(
        batch(3), timeout_seconds=2.0, durability=Durability.DISK
    ),
    "monitor.status": lambda stream: stream.monitor.status(),
    "monitor.memory": lambda stream: stream.monitor.memory(),
    "monitor.ping": lambda stream: stream.monitor.ping(),
}
BY_INDEXER: dict[str, Call] = {
    "consumer.ensure_group": lambda stream: stream.consumer.ensure_group(),
    "consumer.read": add_and_read,
    "consumer.reclaim": lambda stream: stream.consumer.reclaim("d", min_idle_ms=0, count=5),
    "consumer.book_work": lambda stream: stream.consumer.book_work(IndexerWork(busy_ms=1, hits=1)),
    "consumer.find_pending": find_pending,
    "consumer.renew": renew,
    "consumer.hand_over": hand_over,
    "consumer.settle": settle_as_dead,
    "consumer.leave": read_and_leave,
    "consumer.sweep": lambda stream: stream.consumer.sweep(min_idle_ms=0),
    "as_of.sample as_of.publish as_of.find_publisher": publish,
    "dead_letters.list_page dead_letters.find dead_letters.replay dead_letters.discard": go_through_dead_letters,
    "monitor.list_pending monitor.find_entry": list_and_find,
    "monitor.audit": lambda stream: stream.monitor.audit(),
    "monitor.audit_backlog": lambda stream: stream.monitor.audit_backlog(max_seconds=5),
    "monitor.status": lambda stream: stream.monitor.status(),
    "monitor.ping": lambda stream: stream.monitor.ping(),
}


BY_OPERATOR: dict[str, Call] = {
    "consumer.ensure_group": lambda stream: stream.consumer.ensure_group(),
    "monitor.status": lambda stream: stream.monitor.status(),
    "monitor.ping": lambda stream: stream.monitor.ping(),
}
OF_THE_COMMAND = {
    "monitor.audit",
    "monitor.audit_backlog",
    "dead_letters.list_page dead_letters.find dead_letters.replay dead_letters.discard",
}
"""What the indexer's command does for people. It begins with reading the stream, which others may as well."""


class RenderedRedis(RedisServer):
    """The server that the chart's own configuration makes, its places on this machine aside."""

    def _prepare(self) -> Command:
        (found,) = [item for item in render(Case("", VALUES)).all("ConfigMap") if "redis.conf" in item["data"]]
        (self.data_dir / "write-users.sh").write_text(found["data"]["write-users.sh"])
        users = self.data_dir / "users.acl"
        environment = os.environ | {f"{name.upper()}_PASSWORD": password for name, password in PASSWORDS.items()}  # noqa: TID251
        subprocess.run(["sh", self.data_dir / "write-users.sh", users], env=environment, check=True)
        users.write_text(users.read_text() + "user tests on nopass ~* +@all\n")
        here = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.data_dir), "aclfile": str(users)}
        kept = [line for line in found["data"]["redis.conf"].splitlines() if line.split(" ")[0] not in here]
        configuration = self.data_dir / "redis.conf"
        configuration.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in here.items())]) + "\n")
        return Command([str(self.binary), str(configuration)])

    def is_ready(self) -> bool:
        return "Ready to accept connections" in self.log_text()


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RenderedRedis]:
    binary = find_redis() if request.param == "redis" else find_valkey()
    with RenderedRedis(tmp_path_factory.mktemp("redis"), binary=binary) as server:
        yield server


@pytest.fixture
def prefix(server: RenderedRedis) -> str:
    """The prefix of the users' keys, and none of those keys there."""
    assert ask(server, "AUTH tests tests", "FLUSHALL") == ["+OK", "+OK"]
    return "hitcounter"


def settings(server: RenderedRedis, user: str, prefix: str) -> RedisSettings:
    return RedisSettings(url=SecretStr(server.url), username=user, password=SecretStr(PASSWORDS[user]), prefix=prefix)


@pytest.mark.parametrize("method", BY_API)
async def test_api_may_do_what_it_does(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await BY_API[method](stream)


@pytest.mark.parametrize("method", BY_INDEXER)
async def test_indexer_may_do_what_it_does(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.producer.append(batch(1), timeout_seconds=2.0)
    async with open_stream(settings(server, "indexer", prefix)) as stream:
        await BY_INDEXER[method](stream)


@pytest.mark.parametrize("method", BY_OPERATOR)
async def test_operator_may_do_what_it_does(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.producer.append(batch(1), timeout_seconds=2.0)
    async with open_stream(settings(server, "indexer", prefix)) as stream:
        await add_and_read(stream)
    async with open_stream(settings(server, "operator", prefix)) as stream:
        await BY_OPERATOR[method](stream)


@pytest.mark.parametrize(
    "method", sorted({*BY_API, *BY_INDEXER} - BY_OPERATOR.keys() - OF_THE_COMMAND - {"monitor.memory"})
)
async def test_operator_may_not_touch_hits(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.producer.append(batch(1), timeout_seconds=2.0)
    async with open_stream(settings(server, "operator", prefix)) as stream:
        with pytest.raises(StreamUnavailable, match="permission"):
            await {**BY_API, **BY_INDEXER}[method](stream)


ADDS_TO_THE_LEDGER = {"consumer.book_work"}
"""Only HINCRBY on the ledger, which the API needs to accept hits."""


@pytest.mark.parametrize("method", sorted(BY_INDEXER.keys() - BY_API.keys() - OF_THE_COMMAND - ADDS_TO_THE_LEDGER))
async def test_api_may_not_do_what_indexers_do(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.producer.append(batch(1), timeout_seconds=2.0)
        with pytest.raises(StreamUnavailable, match="permission"):
            await BY_INDEXER[method](stream)


@pytest.mark.parametrize("user", ["api", "indexer", "operator"])
async def test_nobody_reaches_another_installation_in_the_same_redis(server: RenderedRedis, user: str) -> None:
    async with open_stream(settings(server, user, "another")) as stream:
        with pytest.raises(StreamUnavailable, match="permission"):
            await stream.monitor.status()


def test_versions_that_the_chart_names_are_tried() -> None:
    cases = {find_redis: Case(""), find_valkey: Case("", files=("k8s/samples/values-valkey.yaml",))}
    for find, case in cases.items():
        assert render(case).pod("redis").containers[0]["image"].endswith(f":{redis_version(find())}")


def test_every_way_to_use_the_stream_is_tried() -> None:
    tried = {word for name in [*BY_API, *BY_INDEXER, *BY_OPERATOR] for word in name.split()}
    assert tried >= METHODS


def ask(server: RenderedRedis, *commands: str) -> list[str]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        answers = []
        for command in commands:
            connection.sendall(command.encode() + b"\r\n")
            answers.append(connection.recv(4096).decode().strip())
        return answers


def test_user_without_a_password_is_not_made(tmp_path: Path) -> None:
    (found,) = [item for item in render(Case("", VALUES)).all("ConfigMap") if "redis.conf" in item["data"]]
    (tmp_path / "write-users.sh").write_text(found["data"]["write-users.sh"])
    environment = {"PATH": os.environ["PATH"], "API_PASSWORD": "a", "INDEXER_PASSWORD": "b"}  # noqa: TID251
    users = tmp_path / "users.acl"
    subprocess.run(["sh", tmp_path / "write-users.sh", users], env=environment, check=True)
    assert re.findall(r"^user (\w+)", users.read_text(), re.MULTILINE) == ["default", "probe", "api", "indexer"]


def test_nobody_is_let_in_without_a_name(server: RenderedRedis) -> None:
    assert ask(server, "GET x")[0].startswith("-NOAUTH")


def test_probe_may_ping_and_nothing_else(server: RenderedRedis) -> None:
    assert ask(server, "AUTH probe probe", "PING") == ["+OK", "+PONG"]
    assert ask(server, "AUTH probe probe", "INFO")[1].startswith("-NOPERM")


@pytest.mark.parametrize("find", [find_redis, find_valkey])
async def test_everything_is_there_after_a_restart(find: Callable[[], Path], tmp_path: Path) -> None:
    """The append-only file is loaded in the name of the default user, whose rights count though nobody can be it."""
    with RenderedRedis(tmp_path / "redis", binary=find()) as server:
        async with open_stream(settings(server, "api", "hitcounter")) as stream:
            for sequence in (1, 2, 3):
                await stream.producer.append(batch(sequence), timeout_seconds=2.0)
        async with open_stream(settings(server, "indexer", "hitcounter")) as stream:
            await settle_as_dead(stream)
            before = (await stream.monitor.status()).ledger
        server.stop()
        server.log_file.unlink()
        server.start().wait_ready()
        assert "NOPERM" not in server.log_text()
        async with open_stream(settings(server, "api", "hitcounter")) as stream:
            assert (await stream.monitor.status()).ledger == before


def test_passwords_stand_nowhere_in_the_clear(server: RenderedRedis) -> None:
    written = (server.data_dir / "users.acl").read_text() + (server.data_dir / "redis.conf").read_text()
    assert not [password for password in PASSWORDS.values() if password in written]
    assert oct((server.data_dir / "users.acl").stat().st_mode)[-3:] == "600"
