"""The command hitcounter-devstack, as people use it: started, interrupted, started twice, robbed of a part."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack.ports import FALLBACK_PORTS, is_free

COMMAND = Path(sys.executable).parent / "hitcounter-devstack"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account of root's Elasticsearch can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


class Running:
    """The command under test and what it has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.text = ""

    def read_until(self, sentence: str) -> str:
        """Read its output up to the line with this sentence (a pattern) and return that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if re.search(sentence, line):
                return line
        raise AssertionError(f"never said {sentence!r}:\n{self.text}")

    def ends_with(self, status: int) -> None:
        """Read the rest and check the exit status."""
        rest, _ = self.process.communicate(timeout=60)
        self.text += rest
        assert self.process.returncode == status, self.text

    def url_of(self, store: str) -> str:
        """Return the URL that it printed for a store."""
        found = re.search(rf"HITCOUNTER_{store}__URL=(\S+)", self.text)
        assert found, self.text
        return found[1]


@contextlib.contextmanager
def devstack(*arguments: str | Path) -> Iterator[Running]:
    with subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def port_of(url: str) -> int:
    found = re.search(r":(\d+)", url)
    assert found
    return int(found[1])


def shut_down_redis(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"SHUTDOWN\r\n")
        connection.recv(16)


def take(port: int) -> socket.socket:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", port))
    holder.listen()
    return holder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_servers_and_exits_with_0(folder: Path, number: signal.Signals) -> None:
    with devstack("servers", "--data", folder) as running:
        running.read_until("REPLICAS=0")
        ports = [port_of(running.url_of(store)) for store in ("REDIS", "ELASTICSEARCH")]
        assert not any(map(is_free, ports))
        running.process.send_signal(number)
        running.ends_with(0)
        assert all(map(is_free, ports))


def test_a_second_stack_on_the_same_data_is_refused_with_the_first_ones_process(folder: Path) -> None:
    with devstack("servers", "--data", folder) as first:
        first.read_until("starting")
        with devstack("servers", "--data", folder) as second:
            second.ends_with(1)
        assert f"already runs on {folder} (process {first.process.pid})" in second.text
        first.process.terminate()
        first.ends_with(0)


def test_a_part_that_dies_is_named_and_ends_the_stack_with_1(folder: Path) -> None:
    with devstack("servers", "--data", folder) as running:
        running.read_until("REPLICAS=0")
        shut_down_redis(port_of(running.url_of("REDIS")))
        running.ends_with(1)
    assert "redis ended with exit code 0; its last lines:" in running.text
    assert "stopping elasticsearch" in running.text


def test_taken_ports_are_replaced_by_free_ones_and_named(folder: Path) -> None:
    with contextlib.ExitStack() as holders:
        for port in (6379, 9200):
            if is_free(port):
                holders.enter_context(take(port))
        with devstack("servers", "--data", folder) as running:
            running.read_until("REPLICAS=0")
            for store in ("REDIS", "ELASTICSEARCH"):
                assert port_of(running.url_of(store)) in FALLBACK_PORTS
            assert re.search(r"port 6379 is taken: redis gets \d+", running.text)
            assert re.search(r"port 9200 is taken: elasticsearch gets \d+", running.text)
            running.process.terminate()
            running.ends_with(0)
