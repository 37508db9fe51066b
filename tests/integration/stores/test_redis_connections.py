"""Every way in to Redis that the settings offer: user and password, TLS with an authority of one's own, Sentinel."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter.codec import HitBatch
from hitcounter.entries import Settlement
from hitcounter.errors import Outcome, StreamUnavailable
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer, find_redis
from hitcounter_devstack.server import Command
from pydantic import SecretStr, ValidationError
from redis.asyncio import Redis

from tests.integration.stores.certificates import make_certificates
from tests.integration.stores.waiting import until
from tests.support.proxy import FaultyWire

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

    asks_clients = "no"

    def _prepare(self) -> Command:
        make_certificates(self.data_dir)
        self.options |= {
            "tls-port": str(self.port),
            "tls-cert-file": str(self.data_dir / "server.crt"),
            "tls-key-file": str(self.data_dir / "server.key"),
            "tls-ca-cert-file": str(self.data_dir / "ca.crt"),
            "tls-auth-clients": self.asks_clients,
        }
        command = super()._prepare()
        plain_port = command.arguments.index("--port") + 1
        arguments = [*command.arguments[:plain_port], "0", *command.arguments[plain_port + 1 :]]
        return Command(arguments)


class MutualTlsServer(TlsServer):
    """The same, and clients need a certificate of that authority as well: what Redis asks for by default."""

    asks_clients = "yes"


def server_with_users(folder: Path) -> RedisServer:
    users = folder / "users.acl"
    users.write_text("user default off\nuser api on >s3cret ~* +@all\n")
    return GuardedServer(folder, options={"aclfile": str(users)})


def one_hit(sequence: int) -> HitBatch:
    return HitBatch(PRODUCER, sequence, ["a"], [time.time_ns() // 1_000_000])


async def accepted_hits(settings: RedisSettings) -> int:
    async with open_stream(settings) as stream:
        return (await stream.monitor.status()).ledger.accepted


async def append_one(settings: RedisSettings, sequence: int = 1) -> None:
    async with open_stream(settings) as stream:
        await stream.producer.append(one_hit(sequence), timeout_seconds=2.0)


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


async def test_tls_with_a_client_certificate(folder: Path) -> None:
    with MutualTlsServer(folder, binary=find_redis("7.0")) as server:
        url, ca_file = SecretStr(server.url.replace("redis://", "rediss://")), str(folder / "ca.crt")
        certificate, key = str(folder / "server.crt"), str(folder / "server.key")
        await append_one(RedisSettings(url=url, ca_file=ca_file, cert_file=certificate, key_file=key))
        both = folder / "both.pem"
        both.write_text((folder / "server.crt").read_text() + (folder / "server.key").read_text())
        await append_one(RedisSettings(url=url, ca_file=ca_file, cert_file=str(both)), sequence=2)
        with pytest.raises(StreamUnavailable):  # it says why, or has closed the connection before that is read
            await append_one(RedisSettings(url=url, ca_file=ca_file), sequence=3)


async def test_key_of_another_certificate_or_an_encrypted_one_is_refused_before_connecting(folder: Path) -> None:
    make_certificates(folder)
    encrypting = ["openssl", "rsa", "-aes128", "-passout", "pass:s3cret", "-in", "server.key", "-out", "locked.key"]
    await asyncio.to_thread(subprocess.run, encrypting, cwd=folder, check=True, capture_output=True)
    for key in ("ca.key", "locked.key", "server.crt"):
        with pytest.raises(ValidationError, match="certificate and key must"):
            RedisSettings(
                url=SecretStr("rediss://127.0.0.1"),
                cert_file=str(folder / "server.crt"),
                key_file=str(folder / key),
            )


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
        assert (await stream.monitor.status()).ledger.accepted == 2
    assert await accepted_hits(RedisSettings(url=SecretStr(replica.url))) == 2


async def retry_append(stream: HitStream, sequence: int) -> None:
    while True:
        try:
            await stream.producer.append(one_hit(sequence), timeout_seconds=2.0)
            return
        except StreamUnavailable:
            await asyncio.sleep(0.1)


async def copy_arrived(settings: RedisSettings) -> None:
    while True:
        if await accepted_hits(settings) == 1:
            return
        await asyncio.sleep(0.05)


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer(folder / "first") as first:
        follow = {"replicaof": f"127.0.0.1 {first.port}", "repl-diskless-sync-delay": "0"}
        with RedisServer(folder / "second", options=follow) as second:
            yield first, second


async def swap(demoted: RedisServer, promoted: RedisServer) -> None:
    """Promote one and demote the other in place: its connections stay open, and it answers reads."""
    async with Redis.from_url(promoted.url) as new, Redis.from_url(demoted.url) as old:
        await new.replicaof("NO", "ONE")
        await old.replicaof("127.0.0.1", promoted.port)


async def index_one(stream: HitStream, consumer: str) -> int:
    """Do what an indexer does, writes to Redis first; return the number of entries settled."""
    await stream.consumer.ensure_group()
    entries = await stream.consumer.read(consumer, count=100, block_ms=100)
    settled = await stream.consumer.settle([Settlement(entry.entry_id, indexed=entry.hits) for entry in entries])
    return len(settled)


async def test_api_and_indexer_follow_a_redis_that_is_demoted_in_place_and_promoted_again(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    """One plain address, as of a managed Redis: it leads to the new primary, but connections that are open stay."""
    first, second = pair
    with FaultyWire(first.url) as wire:
        settings = RedisSettings(url=SecretStr(wire.url))
        async with open_stream(settings) as api, open_stream(settings) as indexer, asyncio.timeout(40):
            await indexer.consumer.ensure_group()
            sequence = 1
            await api.producer.append(one_hit(sequence), timeout_seconds=2.0)
            assert (await api.monitor.status()).ledger.accepted == 1
            assert await index_one(indexer, "me") == 1
            await copy_arrived(RedisSettings(url=SecretStr(second.url)))
            for demoted, promoted in ((first, second), (second, first)):
                reading = asyncio.create_task(indexer.consumer.read("blocked", count=1, block_ms=1500))
                await asyncio.gather(
                    *[indexer.monitor.status() for _ in range(3)]
                )  # connections beside that one, as of lanes
                await swap(demoted, promoted)
                wire.lead_to(promoted.url)
                outcomes = []
                for _ in range(5):  # under load: each lane may fail once for each connection it has
                    sequence += 1
                    try:
                        await api.producer.append(one_hit(sequence), timeout_seconds=2.0)
                    except StreamUnavailable as error:
                        outcomes.append(error.outcome)
                assert set(outcomes) <= {Outcome.REFUSED}
                assert len(outcomes) <= 1
                await asyncio.gather(reading, return_exceptions=True)
                for _ in range(4):
                    lanes = [index_one(indexer, f"lane {lane}") for lane in range(3)]
                    results = await asyncio.gather(*lanes, return_exceptions=True)
                assert not [result for result in results if isinstance(result, BaseException)]
                async with open_stream(RedisSettings(url=SecretStr(promoted.url))) as there:
                    seen, truth = await api.monitor.status(), await there.monitor.status()
                assert seen.ledger == truth.ledger
                await follows(demoted)


async def follows(server: RedisServer) -> None:
    """Wait until the server is a replica that has caught up."""
    async with Redis.from_url(server.url) as client:

        async def is_up() -> bool:
            return bool((await client.info("replication")).get("master_link_status") == "up")

        await until(is_up)


async def test_batch_for_a_master_that_was_demoted_behind_sentinels_is_refused_and_not_unknown(
    watched: tuple[RedisServer, RedisServer, SentinelServer],
) -> None:
    master, replica, sentinel = watched
    settings = RedisSettings(url=SecretStr("redis://the-sentinels-know/0"), sentinels=f"127.0.0.1:{sentinel.port}")
    async with open_stream(settings) as stream, asyncio.timeout(20):
        await retry_append(stream, 1)
        await swap(master, replica)
        with pytest.raises(StreamUnavailable) as raised:
            await stream.producer.append(one_hit(2), timeout_seconds=2.0)
        assert raised.value.outcome is Outcome.REFUSED
        assert await accepted_hits(RedisSettings(url=SecretStr(replica.url))) <= 1


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ("~* +@all -evalsha", Outcome.REFUSED),
        ("~other +@all", Outcome.REFUSED),
        ("~* +@all -hincrby", Outcome.UNKNOWN),
    ],
    ids=["no scripts", "other keys", "a command that the script calls after it has added the entry"],
)
async def test_batch_that_a_user_may_not_send_is_refused_unless_the_script_had_begun(
    folder: Path, rules: str, outcome: Outcome
) -> None:
    with RedisServer(folder) as server:
        async with Redis.from_url(server.url) as client:
            await client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", *rules.split())  # type: ignore[no-untyped-call]
        settings = RedisSettings(url=SecretStr(server.url), username="narrow", password=SecretStr("pw"))
        async with open_stream(settings) as stream:
            with pytest.raises(StreamUnavailable, match="permission") as raised:
                await stream.producer.append(one_hit(1), timeout_seconds=2.0)
        assert raised.value.outcome is outcome
