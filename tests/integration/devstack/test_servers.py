"""The servers of the local stack live, die and come back as promised. Everything here is a real process."""

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import (
    ELASTICSEARCH_8,
    ELASTICSEARCH_9,
    DataInUseError,
    ElasticsearchRelease,
    ElasticsearchServer,
    RedisServer,
    Service,
    StartError,
    find_redis,
    free_port,
)
from hitcounter_devstack.elasticsearch import elasticsearch_answers
from hitcounter_devstack.ports import is_free

START_BOTH_AND_STAY = """
import json, os, sys, time
from pathlib import Path
from hitcounter_devstack import ElasticsearchServer, RedisServer

folder = Path(sys.argv[1])
with RedisServer(folder / "redis") as redis, ElasticsearchServer(folder / "elasticsearch") as elasticsearch:
    launcher = os.getpgid(elasticsearch.pid)
    redis.pause()
    pids = [redis.pid, elasticsearch.pid, launcher]
    print(json.dumps({"pids": pids, "ports": [redis.port, elasticsearch.port]}), flush=True)
    time.sleep(600)
"""

HTTP_SERVER = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account of root's Elasticsearch can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def redis_command(server: RedisServer, *words: str) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(4096).decode().strip()


def elasticsearch_request(server: ElasticsearchServer, method: str, path: str, body: str = "") -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("line", ["8.2", "7.0"])
def test_redis_keeps_port_and_data_over_a_kill(folder: Path, line: str) -> None:
    with RedisServer(folder, binary=find_redis(line), options={"appendfsync": "always"}) as server:
        port = server.port
        assert server.version.startswith(line)
        assert redis_command(server, "SET", "hit", "counted") == "+OK"
        server.kill()
        assert is_free(port)
        server.start().wait_ready()
        assert server.port == port
        assert redis_command(server, "GET", "hit").endswith("counted")
    assert is_free(port)


def test_redis_never_evicts_and_keeps_an_append_only_file(folder: Path) -> None:
    with RedisServer(folder) as server:
        assert "noeviction" in redis_command(server, "CONFIG", "GET", "maxmemory-policy")
        assert redis_command(server, "CONFIG", "GET", "appendonly").endswith("yes")


@pytest.mark.parametrize("release", [ELASTICSEARCH_8, ELASTICSEARCH_9], ids=lambda release: release.version)
def test_elasticsearch_keeps_port_and_documents_over_a_kill(folder: Path, release: ElasticsearchRelease) -> None:
    with ElasticsearchServer(folder, release=release) as server:
        nodes = elasticsearch_request(server, "GET", "/_nodes/_local?filter_path=nodes.*.version")
        assert release.version in json.dumps(nodes)
        settings = '{"settings": {"number_of_replicas": 0}}'
        elasticsearch_request(server, "PUT", "/hits", settings)
        elasticsearch_request(server, "PUT", "/hits/_doc/1", '{"id": "1"}')
        os.kill(server.pid, signal.SIGKILL)  # the pid is the real server's, not its launcher's
        wait_until(lambda: not server.is_running)
        server.start().wait_ready()
        assert elasticsearch_request(server, "GET", "/hits/_doc/1")["found"] is True
        assert elasticsearch_request(server, "GET", "/_cluster/health")["number_of_nodes"] == 1


def test_a_paused_server_does_not_answer_until_it_is_resumed(folder: Path) -> None:
    with RedisServer(folder) as server:
        server.pause()
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.3) as connection:
            connection.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(16)
            server.resume()
            connection.settimeout(5)
            assert connection.recv(16) == b"+PONG\r\n"


def test_two_servers_cannot_share_a_data_folder(folder: Path) -> None:
    with RedisServer(folder), pytest.raises(DataInUseError, match="another stack runs on this data"):
        RedisServer(folder).start()


def test_redis_is_not_ready_by_the_answers_of_another_on_its_port(folder: Path) -> None:
    with RedisServer(folder / "theirs") as theirs:
        ours = RedisServer(folder / "ours", port=theirs.port)
        with pytest.raises(StartError, match="Address already in use"):
            ours.start().wait_ready()


@contextlib.contextmanager
def stranger(answer: bytes) -> Iterator[int]:
    """Answer every GET with 200 and this body; yields the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_elasticsearch_is_not_ready_by_the_answers_of_another_on_its_port(folder: Path) -> None:
    with stranger(b'{"nodes": {"x": {"name": "devstack"}}, "status": "green"}') as port:
        assert elasticsearch_answers(f"http://127.0.0.1:{port}")
        assert not ElasticsearchServer(folder, port=port).is_ready()


def test_a_service_is_not_ready_by_the_answers_of_another_on_its_port(folder: Path) -> None:
    with stranger(b'{"ready": true, "pid": 1}') as port:
        service = Service(["sleep", "60"], log_file=folder / "log", ready_url=f"http://127.0.0.1:{port}/readyz")
        service.start()
        assert not service.is_ready()
        service.kill()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = RedisServer(folder, options={"maxmemory-policy": "keep-nothing"})
    with pytest.raises(StartError, match="keep-nothing"):
        server.start().wait_ready()


def test_nothing_survives_the_sigkill_of_the_parent(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_BOTH_AND_STAY, folder], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        started = json.loads(parent.stdout.readline())
        assert all(map(is_alive, started["pids"]))
        os.killpg(parent.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, started["pids"])))
    wait_until(lambda: all(map(is_free, started["ports"])))


def test_a_service_is_ready_when_its_url_answers_and_gives_its_exit_code(folder: Path) -> None:
    port = free_port()
    lines: list[str] = []
    service = Service(
        [*HTTP_SERVER, str(port)],
        log_file=folder / "service.log",
        ready_url=f"http://127.0.0.1:{port}/",
        folder=folder,
        environment={"PYTHONUNBUFFERED": "1"},
        on_line=lines.append,
    )
    with service:
        assert service.is_ready()
        wait_until(lambda: any("GET / " in line for line in lines))
    assert service.exit_code == -signal.SIGTERM  # http.server has no handler of its own
    assert "GET / " in service.log_text()


def test_a_command_that_does_not_exist_is_told_by_its_name(folder: Path) -> None:
    service = Service(["hitcounter-nowhere"], log_file=folder / "log", ready_url="http://127.0.0.1:1/")
    with pytest.raises(StartError, match="hitcounter-nowhere could not be started"):
        service.start()
