"""A real Elasticsearch: one node, reachable only from this machine, with little memory and disk.

`distributions.py` and `java.py` provide the program and its Java. Its launcher is a small Java process that starts the
server as a second one. Both are in one process group, so a signal to the group reaches the server.
"""

import secrets
import shutil
import subprocess
from pathlib import Path

from hitcounter_devstack.distributions import ELASTICSEARCH_8, ElasticsearchRelease, require_elasticsearch
from hitcounter_devstack.java import require_java
from hitcounter_devstack.ports import LOCALHOST, free_port, http_json, http_status
from hitcounter_devstack.processes import LineHandler
from hitcounter_devstack.server import Command, Server
from hitcounter_devstack.substitutes import claim_substitute, drop_abandoned, reachable_folder
from hitcounter_devstack.users import give_to, unprivileged_user

DEFAULT_PORT = 9200
DEFAULT_HEAP_MB = 512

# Durability is left as it ships: every request is on disk before it is answered.
SETTINGS = """\
cluster.name: hitcounter-devstack
node.name: {node_name}
discovery.type: single-node
network.host: {host}
http.port: {port}
transport.port: {transport_port}
path.data: {folder}/data
path.logs: {folder}/logs
xpack.security.enabled: false
xpack.ml.enabled: false
node.store.allow_mmap: false
# A developer's disk is often nearly full; that must not make the indices read-only.
cluster.routing.allocation.disk.threshold_enabled: false
"""

JVM_OPTIONS = """\
-Xms{heap_mb}m
-Xmx{heap_mb}m
-XX:+UseG1GC
-XX:+ExitOnOutOfMemoryError
-XX:ErrorFile={folder}/logs/java_error_%p.log
-Djava.io.tmpdir={folder}/tmp
20-:--add-modules=jdk.incubator.vector
"""

LOGGING = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


class ElasticsearchServer(Server):
    """An Elasticsearch node.

    Args:
        data_dir: holds its indices, configuration and logs. When the account that root's server
            runs as cannot reach this folder, one in the cache stands for it (`data_dir` tells).
        release: the version to run; fetched at the first start.
        port: the port to listen on; None takes a free one, once.
        heap_mb: the size of its heap.
        on_line: called with each line of its log.
    """

    name = "elasticsearch"
    ready_seconds = 120.0
    stop_seconds = 30.0

    def __init__(
        self,
        data_dir: Path,
        *,
        release: ElasticsearchRelease = ELASTICSEARCH_8,
        port: int | None = None,
        heap_mb: int = DEFAULT_HEAP_MB,
        on_line: LineHandler | None = None,
    ) -> None:
        self._user = unprivileged_user()
        self._wanted_dir = data_dir.absolute()
        super().__init__(reachable_folder(self._wanted_dir, self._user), port=port, on_line=on_line)
        self.release = release
        self.heap_mb = heap_mb
        self._node_name = f"devstack-{secrets.token_hex(4)}"

    @property
    def url(self) -> str:
        """The URL of its HTTP interface."""
        return f"http://{LOCALHOST}:{self.port}"

    @property
    def version(self) -> str:
        """The version of the release."""
        return self.release.version

    @property
    def pid(self) -> int:
        """The process id of the server itself; its launcher's while that has not started it yet."""
        launcher = super().pid
        return next(iter(_children(launcher)), launcher)

    def _prepare(self) -> Command:
        java = require_java(self.release.java, self._user)
        home = require_elasticsearch(self.release)
        if self.data_dir != self._wanted_dir:
            claim_substitute(self.data_dir, self._wanted_dir)
            drop_abandoned()
        self._write_configuration(home)
        environment = {
            "ES_JAVA_HOME": str(java.home),
            "ES_PATH_CONF": str(self.data_dir / "config"),
            "ES_TMPDIR": str(self.data_dir / "tmp"),
            "ES_JAVA_OPTS": "",  # somebody's own would override the heap asked for here
        }
        return Command([str(home / "bin" / "elasticsearch")], environment, self._user)

    def _write_configuration(self, home: Path) -> None:
        config = self.data_dir / "config"
        shutil.rmtree(config, ignore_errors=True)
        for folder in (config / "jvm.options.d", self.data_dir / "data", self.data_dir / "logs", self.data_dir / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        values = {"folder": self.data_dir, "port": self.port, "heap_mb": self.heap_mb, "host": LOCALHOST}
        values["node_name"] = self._node_name
        (config / "elasticsearch.yml").write_text(SETTINGS.format(**values, transport_port=free_port()))
        (config / "jvm.options").write_text(JVM_OPTIONS.format(**values))
        (config / "log4j2.properties").write_text(LOGGING)
        for name in ("roles.yml", "role_mapping.yml", "users", "users_roles"):
            shutil.copyfile(home / "config" / name, config / name)
        give_to(self._user, self.data_dir)

    def is_ready(self) -> bool:
        """Say whether it answers, is no other node on this port, and has found all of its primary shards."""
        return elasticsearch_answers(self.url) and node_name(self.url) == self._node_name


def node_name(url: str) -> str | None:
    """Return the name of the node at this URL; None if none answers."""
    nodes = http_json(f"{url}/_nodes/_local?filter_path=nodes.*.name", timeout_seconds=3.0).get("nodes", {})
    return next((str(node["name"]) for node in nodes.values()), None)


def elasticsearch_answers(url: str) -> bool:
    """Say whether an Elasticsearch at this URL is healthy enough to index and search."""
    return http_status(f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s", timeout_seconds=3.0) == 200


def _children(parent: int) -> list[int]:
    """Return the processes that this one started, by the means at hand: /proc, or ps where there is none."""
    listing = Path(f"/proc/{parent}/task/{parent}/children")
    if listing.exists():
        tasks = Path(f"/proc/{parent}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]
    answer = subprocess.run(["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in answer.stdout.splitlines())
    return [int(child) for ppid, child in pairs if int(ppid) == parent]
