"""The bundled Redis, and Valkey in its place, run for real with the rendered configuration.

Each part may do what it does, and nothing else.
"""

from __future__ import annotations

import inspect
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
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer, find_redis, find_valkey
from hitcounter_devstack.redis_binaries import redis_version
from hitcounter_devstack.server import Command
from pydantic import SecretStr

from tests.chart.rendering import Case, render

PASSWORDS = {"api": 'it\'s "odd" $(x) \\ß', "indexer": "indexer-password", "operator": "operator-password"}
VALUES = {"redis": {"auth": {"enabled": True, **{f"{name}Password": password for name, password in PASSWORDS.items()}}}}

Call = Callable[[HitStream], Awaitable[object]]


def batch(sequence: int) -> HitBatch:
    return HitBatch(b"a producer..", sequence, ["a"], [time.time_ns() // 1_000_000])


async def add_and_read(stream: HitStream) -> str:
    """Leave one entry in flight, and return its id."""
    await stream.ensure_group()
    (entry,) = await stream.read("c", count=1, block_ms=100)
    return entry.entry_id


async def settle_as_dead(stream: HitStream) -> None:
    entry_id = await add_and_read(stream)
    letter = DeadLetter(reason="r", detail="d", hits=1, payload=b"p")
    assert await stream.settle([Settlement(entry_id, dead_letters=[letter])]) == [entry_id]


async def publish(stream: HitStream) -> None:
    sample = await stream.sample_as_of("me", lease_ms=10_000)
    assert sample is not None
    assert await stream.publish_as_of(sample)
    assert await stream.is_publisher("me")


async def go_through_dead_letters(stream: HitStream) -> None:
    await settle_as_dead(stream)
    (letter,) = await stream.list_dead_letters()
    assert await stream.find_dead_letter(letter.letter_id)
    assert await stream.replay_dead_letter(letter.letter_id)
    await settle_as_dead(stream)
    (letter,) = await stream.list_dead_letters()
    assert await stream.discard_dead_letter(letter.letter_id)


async def renew(stream: HitStream) -> None:
    await stream.renew("c", [await add_and_read(stream)])


async def hand_over(stream: HitStream) -> None:
    await stream.hand_over("c", [await add_and_read(stream)], idle_ms=1)


async def read_and_leave(stream: HitStream) -> None:
    await add_and_read(stream)
    assert not await stream.leave("c")  # something is pending
    assert await stream.leave("d")


async def list_and_find(stream: HitStream) -> None:
    entry_id = await add_and_read(stream)
    assert [pending.entry_id for pending in await stream.list_pending()] == [entry_id]
    assert await stream.find_entry(entry_id)


async def append_twice(stream: HitStream) -> None:
    """Its answer was lost, perhaps: the script's other branch."""
    for _ in range(2):
        await stream.append(batch(2), timeout_seconds=2.0)


BY_API: dict[str, Call] = {
    "append again": append_twice,
    "append": lambda stream: stream.append(batch(2), timeout_seconds=2.0),
    "append to the disk": lambda stream: stream.append(batch(3), timeout_seconds=2.0, durability=Durability.DISK),
    "status": lambda stream: stream.status(),
    "memory": lambda stream: stream.memory(),
    "ping": lambda stream: stream.ping(),
}
BY_INDEXER: dict[str, Call] = {
    "ensure_group": lambda stream: stream.ensure_group(),
    "read": add_and_read,
    "reclaim": lambda stream: stream.reclaim("d", min_idle_ms=0, count=5),
    "renew": renew,
    "hand_over": hand_over,
    "settle": settle_as_dead,
    "leave": read_and_leave,
    "sample_as_of publish_as_of is_publisher": publish,
    "list_dead_letters find_dead_letter replay_dead_letter discard_dead_letter": go_through_dead_letters,
    "list_pending find_entry": list_and_find,
    "audit": lambda stream: stream.audit(),
    "audit_backlog": lambda stream: stream.audit_backlog(max_seconds=5),
    "status": lambda stream: stream.status(),
    "ping": lambda stream: stream.ping(),
}


BY_OPERATOR: dict[str, Call] = {
    "ensure_group": lambda stream: stream.ensure_group(),
    "sweep": lambda stream: stream.sweep(min_idle_ms=0),
    "status": lambda stream: stream.status(),
    "ping": lambda stream: stream.ping(),
}
OF_THE_COMMAND = {"audit", "audit_backlog", "list_dead_letters find_dead_letter replay_dead_letter discard_dead_letter"}
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
        await stream.append(batch(1), timeout_seconds=2.0)
    async with open_stream(settings(server, "indexer", prefix)) as stream:
        await BY_INDEXER[method](stream)


@pytest.mark.parametrize("method", BY_OPERATOR)
async def test_operator_may_do_what_it_does(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.append(batch(1), timeout_seconds=2.0)
    async with open_stream(settings(server, "indexer", prefix)) as stream:
        await add_and_read(stream)
    async with open_stream(settings(server, "operator", prefix)) as stream:
        await BY_OPERATOR[method](stream)


@pytest.mark.parametrize("method", sorted({*BY_API, *BY_INDEXER} - BY_OPERATOR.keys() - OF_THE_COMMAND - {"memory"}))
async def test_operator_may_not_touch_hits(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.append(batch(1), timeout_seconds=2.0)
    async with open_stream(settings(server, "operator", prefix)) as stream:
        with pytest.raises(StreamUnavailable, match="permission"):
            await {**BY_API, **BY_INDEXER}[method](stream)


@pytest.mark.parametrize("method", sorted(BY_INDEXER.keys() - BY_API.keys() - OF_THE_COMMAND))
async def test_api_may_not_do_what_indexers_do(server: RenderedRedis, prefix: str, method: str) -> None:
    async with open_stream(settings(server, "api", prefix)) as stream:
        await stream.append(batch(1), timeout_seconds=2.0)
        with pytest.raises(StreamUnavailable, match="permission"):
            await BY_INDEXER[method](stream)


@pytest.mark.parametrize("user", ["api", "indexer", "operator"])
async def test_nobody_reaches_another_installation_in_the_same_redis(server: RenderedRedis, user: str) -> None:
    async with open_stream(settings(server, user, "another")) as stream:
        with pytest.raises(StreamUnavailable, match="permission"):
            await stream.status()


def test_versions_that_the_chart_names_are_tried() -> None:
    cases = {find_redis: Case(""), find_valkey: Case("", files=("k8s/samples/values-valkey.yaml",))}
    for find, case in cases.items():
        assert render(case).pod("redis").containers[0]["image"].endswith(f":{redis_version(find())}")


def test_every_way_to_use_the_stream_is_tried() -> None:
    methods = {name for name, _ in inspect.getmembers(HitStream, inspect.iscoroutinefunction)} - {"aclose"}
    tried = {word for name in [*BY_API, *BY_INDEXER, *BY_OPERATOR] for word in name.split()}
    assert {name for name in methods if not name.startswith("_")} <= tried


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
                await stream.append(batch(sequence), timeout_seconds=2.0)
        async with open_stream(settings(server, "indexer", "hitcounter")) as stream:
            await settle_as_dead(stream)
            before = (await stream.status()).ledger
        server.stop()
        server.log_file.unlink()
        server.start().wait_ready()
        assert "NOPERM" not in server.log_text()
        async with open_stream(settings(server, "api", "hitcounter")) as stream:
            assert (await stream.status()).ledger == before


def test_passwords_stand_nowhere_in_the_clear(server: RenderedRedis) -> None:
    written = (server.data_dir / "users.acl").read_text() + (server.data_dir / "redis.conf").read_text()
    assert not [password for password in PASSWORDS.values() if password in written]
    assert oct((server.data_dir / "users.acl").stat().st_mode)[-3:] == "600"
