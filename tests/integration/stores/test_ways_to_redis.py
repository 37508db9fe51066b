"""Every way in to Redis that the settings offer: user and password, TLS with an authority of one's own, Sentinel."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter.codec import HitBatch
from hitcounter.errors import StreamUnavailable
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer, find_redis
from hitcounter_devstack.server import Command
from pydantic import SecretStr

PRODUCER = b"a producer.."


class SentinelServer(RedisServer):
    """The same program in its other role: it watches one master, and promotes its replica when that is gone."""

    name = "sentinel"

    def __init__(self, data_dir: Path, *, master: RedisServer) -> None:
        super().__init__(data_dir)
        self._master = master

    def _prepare(self) -> Command:
        configuration = self.data_dir / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 2000\n"
        )
        return Command([str(self.binary), str(configuration), "--sentinel"])


class GuardedServer(RedisServer):
    """Redis that lets nobody in without a name."""

    def is_ready(self) -> bool:
        return "Ready to accept connections" in self.log_text()


class TlsServer(GuardedServer):
    """Redis behind TLS, with a certificate of an authority that nobody else knows."""

    def _prepare(self) -> Command:
        make_certificates(self.data_dir)
        self.options |= {
            "tls-port": str(self.port),
            "tls-cert-file": str(self.data_dir / "server.crt"),
            "tls-key-file": str(self.data_dir / "server.key"),
            "tls-ca-cert-file": str(self.data_dir / "ca.crt"),
            "tls-auth-clients": "no",
        }
        command = super()._prepare()
        plain_port = command.arguments.index("--port") + 1
        arguments = [*command.arguments[:plain_port], "0", *command.arguments[plain_port + 1 :]]
        return Command(arguments)


def make_certificates(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    request = ["req", "-newkey", "rsa:2048", "-nodes"]
    openssl(*request, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(*request, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)


def server_with_users(folder: Path) -> RedisServer:
    users = folder / "users.acl"
    users.write_text("user default off\nuser api on >s3cret ~* +@all\n")
    return GuardedServer(folder, options={"aclfile": str(users)})


def one_hit(sequence: int) -> HitBatch:
    return HitBatch(PRODUCER, sequence, ["a"], [time.time_ns() // 1_000_000])


async def accepted_hits(settings: RedisSettings) -> int:
    async with open_stream(settings) as stream:
        return (await stream.status()).ledger.accepted


async def append_one(settings: RedisSettings, sequence: int = 1) -> None:
    async with open_stream(settings) as stream:
        await stream.append(one_hit(sequence), timeout_seconds=2.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def watched(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, SentinelServer]]:
    with RedisServer(folder / "master") as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}", "repl-diskless-sync-delay": "0"}
        with (
            RedisServer(folder / "replica", options=follow) as replica,
            SentinelServer(folder / "sentinel", master=master) as sentinel,
        ):
            yield master, replica, sentinel


async def test_user_and_password_need_not_stand_in_the_url(folder: Path) -> None:
    with server_with_users(folder) as server:
        settings = RedisSettings(url=SecretStr(server.url), username="api", password=SecretStr("s3cret"))
        await append_one(settings)
        assert await accepted_hits(settings) == 1


async def test_separate_user_and_password_win_over_those_of_the_url(folder: Path) -> None:
    with server_with_users(folder) as server:
        url = server.url.replace("redis://", "redis://nobody:wrong@")
        settings = RedisSettings(url=SecretStr(url), username="api", password=SecretStr("s3cret"))
        await append_one(settings)


async def test_wrong_password_is_said_to_be_one(folder: Path) -> None:
    with server_with_users(folder) as server:
        settings = RedisSettings(url=SecretStr(server.url), username="api", password=SecretStr("wrong"))
        with pytest.raises(StreamUnavailable, match="username-password"):
            await append_one(settings)


async def test_tls_with_an_authority_of_ones_own(folder: Path) -> None:
    with TlsServer(folder, binary=find_redis("7.0")) as server:
        url = SecretStr(server.url.replace("redis://", "rediss://"))
        await append_one(RedisSettings(url=url, ca_file=str(folder / "ca.crt")))
        with pytest.raises(StreamUnavailable, match="certificate"):
            await append_one(RedisSettings(url=url), sequence=2)


async def test_stream_follows_the_sentinels_to_the_new_master(
    watched: tuple[RedisServer, RedisServer, SentinelServer],
) -> None:
    master, replica, sentinel = watched
    nobody = "127.0.0.1:1"  # a sentinel that is gone must not matter
    settings = RedisSettings(
        url=SecretStr("redis://the-sentinels-know/0"), sentinels=f"{nobody},127.0.0.1:{sentinel.port}"
    )
    async with open_stream(settings) as stream:
        async with asyncio.timeout(20):
            await retry_append(stream, 1)
            await copy_arrived(RedisSettings(url=SecretStr(replica.url)))
        master.kill()
        async with asyncio.timeout(30):
            await retry_append(stream, 2)
        assert (await stream.status()).ledger.accepted == 2
    assert await accepted_hits(RedisSettings(url=SecretStr(replica.url))) == 2


async def retry_append(stream: HitStream, sequence: int) -> None:
    while True:
        try:
            await stream.append(one_hit(sequence), timeout_seconds=2.0)
            return
        except StreamUnavailable:
            await asyncio.sleep(0.1)


async def copy_arrived(settings: RedisSettings) -> None:
    while True:
        if await accepted_hits(settings) == 1:
            return
        await asyncio.sleep(0.05)
