"""A store in a container: the fallback of `run` on a machine that has Docker but not the programs of the store.

Tests never use it, because they kill and freeze processes, and cannot do that to processes in a container.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hitcounter_devstack.distributions import ELASTICSEARCH_9
from hitcounter_devstack.elasticsearch import DEFAULT_HEAP_MB, elasticsearch_answers
from hitcounter_devstack.ports import LOCALHOST
from hitcounter_devstack.processes import LineHandler
from hitcounter_devstack.redis import DEFAULT_OPTIONS, build_arguments, redis_answers
from hitcounter_devstack.server import Command, Server

STOP_SECONDS = 20


@dataclass(frozen=True)
class Image:
    """How one store is run from its public image.

    Attributes:
        name: what people call the store.
        repository: the image without its tag.
        tag: the tag, which is the version.
        port: where the store listens inside of the container.
        scheme: of its URL.
        data: the folder inside that holds the data.
        is_ready: asked with the URL and the local port.
        arguments: of the store's own command.
        environment: of the store.
    """

    name: str
    repository: str
    tag: str
    port: int
    scheme: str
    data: str
    is_ready: Callable[[str, int], bool]
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


REDIS_IMAGE = Image(
    name="redis",
    repository="redis",
    tag="8.2",
    port=6379,
    scheme="redis",
    data="/data",
    is_ready=lambda _url, port: redis_answers(port),
    # Inside, it listens to its container's network; only this machine reaches that (see build_command).
    arguments=["redis-server", *build_arguments({**DEFAULT_OPTIONS, "bind": "*", "protected-mode": "no"})],
)
ELASTICSEARCH_IMAGE = Image(
    name="elasticsearch",
    repository="docker.elastic.co/elasticsearch/elasticsearch",
    tag=ELASTICSEARCH_9.version,
    port=9200,
    scheme="http",
    data="/usr/share/elasticsearch/data",
    is_ready=lambda url, _port: elasticsearch_answers(url),
    environment={
        "discovery.type": "single-node",
        "xpack.security.enabled": "false",
        "xpack.ml.enabled": "false",
        "node.store.allow_mmap": "false",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
        "ES_JAVA_OPTS": f"-Xms{DEFAULT_HEAP_MB}m -Xmx{DEFAULT_HEAP_MB}m",
    },
)


class DockerServer(Server):
    """A store in a container that ends and is removed with it; the data stay in `data_dir`."""

    ready_seconds = 600.0  # the image may have to come first
    stop_seconds = STOP_SECONDS + 10.0

    def __init__(self, image: Image, data_dir: Path, *, port: int, on_line: LineHandler | None = None) -> None:
        super().__init__(data_dir, port=port, on_line=on_line)
        self.image = image
        self.name = image.name

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{self.image.scheme}://{LOCALHOST}:{self.port}"

    @property
    def version(self) -> str:
        """The tag of its image."""
        return self.image.tag

    def is_ready(self) -> bool:
        """Say whether the store in the container serves now."""
        return self.image.is_ready(self.url, self.port)

    def _prepare(self) -> Command:
        data = self.data_dir / "data"
        data.mkdir(exist_ok=True)
        data.chmod(0o777)  # the store's account has a number of the image's choosing
        # The container does not end with its client: on our death the guard has to let the client pass the signal on.
        return Command(build_command(self.image, self.port, data), grace_seconds=STOP_SECONDS)


def build_command(image: Image, port: int, data: Path) -> list[str]:
    """Return the `docker run` that serves this image on a local port, reachable from this machine only."""
    variables = [word for name, value in image.environment.items() for word in ("--env", f"{name}={value}")]
    return [
        "docker",
        "run",
        "--rm",
        "--init",
        f"--stop-timeout={STOP_SECONDS}",
        f"--name=hitcounter-devstack-{image.name}-{port}",
        f"--publish={LOCALHOST}:{port}:{image.port}",
        f"--volume={data}:{image.data}",
        *variables,
        f"{image.repository}:{image.tag}",
        *image.arguments,
    ]


def has_docker() -> bool:
    """Say whether there is a Docker here that would do as we ask."""
    if shutil.which("docker") is None:
        return False
    answer = subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=20, cwd=os.sep)
    return answer.returncode == 0
