"""The command hitcounter-devstack, as people use it: started, interrupted, started twice, robbed of a part."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hitcounter_devstack.ports import is_free

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


def answers(url: str, body: str | None = None) -> str | None:
    """Return the body of the answer to a GET, or to a POST of `body`; None while there is none."""
    try:
        with urllib.request.urlopen(url, None if body is None else body.encode(), timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return None


def api_of(running: Running) -> str:
    return f"http://127.0.0.1:{port_of(running.text[running.text.index('curl -i') :])}/analytics"


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.05)


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


def test_two_stacks_started_at_once_have_parts_of_their_own_and_keep_their_hits_apart(folder: Path) -> None:
    folders = [folder / name for name in ("a", "b")]
    with devstack("run", "--data", folders[0]) as first, devstack("run", "--data", folders[1]) as second:
        both = (first, second)
        for running in both:
            running.read_until("curl localhost:")
        apis = [api_of(running) for running in both]
        assert len(set(apis)) == 2
        for api, id_ in zip(apis, ("first", "second"), strict=True):
            assert answers(api, f'{{"id": "{id_}"}}') == ""
        for api, own, other in ((apis[0], "first", "second"), (apis[1], "second", "first")):
            wait_until(lambda: '"count":1' in (answers(f"{api}/{own}") or "").replace(" ", ""))  # noqa: B023
            assert '"count":1' not in (answers(f"{api}/{other}") or "").replace(" ", "")
        for running in both:
            running.process.terminate()
        for running in both:
            running.ends_with(0)


def test_a_part_that_dies_is_named_and_ends_the_stack_with_1(folder: Path) -> None:
    with devstack("servers", "--data", folder) as running:
        running.read_until("REPLICAS=0")
        shut_down_redis(port_of(running.url_of("REDIS")))
        running.ends_with(1)
    assert "redis ended with exit code 0; its last lines:" in running.text
    assert "stopping elasticsearch" in running.text


def test_run_counts_a_hit_is_watched_and_nothing_survives_its_sigkill(folder: Path) -> None:
    with devstack("run", "--observe", "--data", folder) as running:
        running.read_until("curl localhost:")
        api = api_of(running)
        assert answers(api, '{"id": "run"}') == ""
        wait_until(lambda: '"count":1' in (answers(f"{api}/run") or "").replace(" ", ""))
        alerts = re.search(r"Prometheus +(http\S+)", running.text)
        assert alerts
        assert answers(alerts[1])
        wait_until(
            lambda: '"up"' in (answers(f"{alerts[1].rpartition(':')[0]}:{port_of(alerts[1])}/api/v1/targets") or "")
        )
        ports = [int(port) for port in re.findall(r"(?:127.0.0.1|localhost):(\d+)", running.text)]
        os.killpg(running.process.pid, signal.SIGKILL)
        wait_until(lambda: all(map(is_free, ports)))


def test_run_keeps_its_data_until_the_next_time(folder: Path) -> None:
    for expected in ('"count":1', '"count":2'):
        with devstack("run", "--data", folder) as running:
            running.read_until("curl localhost:")
            api = api_of(running)
            assert answers(api, '{"id": "kept"}') == ""
            wait_until(lambda: expected in (answers(f"{api}/kept") or "").replace(" ", ""))  # noqa: B023 - awaited here
            running.process.terminate()
            running.ends_with(0)


def test_the_stack_that_make_started_ends_with_make(folder: Path) -> None:
    makefile = folder / "Makefile"
    makefile.write_text(f"run:\n\t@{COMMAND} servers --data {folder}\n")
    with subprocess.Popen(["make", "-f", makefile], stdout=subprocess.PIPE, text=True) as make:
        running = Running(make)
        running.read_until("REPLICAS=0")
        make.kill()
        running.read_until("stopping elasticsearch")
    wait_until(lambda: is_free(port_of(running.url_of("ELASTICSEARCH"))))
