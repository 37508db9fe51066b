"""Images that cannot be pulled from a registry here, under the names that the chart and the add-ons use.

They contain the same real servers as the local stack, and the programs that Go built.
"""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from hitcounter_devstack.distributions import (
    ELASTICSEARCH_8,
    ELASTICSEARCH_9,
    ElasticsearchRelease,
    require_elasticsearch,
)
from hitcounter_devstack.environment import cache_folder
from hitcounter_devstack.errors import DevstackError, MissingPartError
from hitcounter_devstack.java import find_java, require_java
from hitcounter_devstack.packages import can_install, install_packages
from hitcounter_devstack.progress import ticking
from hitcounter_devstack.prometheus import find_prometheus
from hitcounter_devstack.redis_binaries import debian_redis, find_redis, redis_version

from hitcounter_cluster.archive import Image
from hitcounter_cluster.layout import PAUSE_IMAGE
from hitcounter_cluster.programs import COREDNS, KEDA_ADAPTER, KEDA_OPERATOR, METRICS_SERVER, Program, require_program

SHELL = (
    "bash",
    "sh",
    "cat",
    "cut",
    "dirname",
    "basename",
    "env",
    "expr",
    "id",
    "ls",
    "mkdir",
    "rm",
    "sha256sum",
    "uname",
)
ELASTICSEARCH_HOME = "usr/share/elasticsearch"
PROMETHEUS_IMAGE = "docker.io/prom/prometheus:distribution"

# As the official image does it: its settings are in the environment, by their dotted names.
START_ELASTICSEARCH = """\
#!/bin/bash
set -e
cd /usr/share/elasticsearch
if [ -n "$ELASTIC_PASSWORD" ]; then
    bin/elasticsearch-keystore create --silent
    bin/elasticsearch-keystore add --stdin bootstrap.password <<<"$ELASTIC_PASSWORD"
fi
settings=()
while IFS='=' read -r name value; do
    [[ $name =~ ^[a-z0-9_]+(\\.[a-z0-9_]+)+$ ]] && settings+=("-E$name=$value")
done < <(env)
exec bin/elasticsearch "${settings[@]}"
"""


def node_images() -> list[Image]:
    """Return the images without which no pod runs, or none finds another."""
    coredns = of_program(COREDNS, f"registry.k8s.io/coredns/coredns:{COREDNS.version}", "coredns", "65532:65532")
    return [Image(PAUSE_IMAGE, ["/pause"], {"pause": _pause()}, user="65535:65535"), coredns]


def store_images() -> list[Image]:
    """Return the images of Redis and Elasticsearch."""
    return [redis_image(), elasticsearch_image()]


def keda_images() -> list[Image]:
    """Return the images of KEDA."""
    version = KEDA_OPERATOR.version.removeprefix("v")
    return [
        of_program(KEDA_OPERATOR, f"ghcr.io/kedacore/keda:{version}", "keda"),
        of_program(KEDA_ADAPTER, f"ghcr.io/kedacore/keda-metrics-apiserver:{version}", "keda-adapter"),
    ]


def metrics_server_images() -> list[Image]:
    """Return the image of metrics-server."""
    name = f"registry.k8s.io/metrics-server/metrics-server:{METRICS_SERVER.version}"
    return [of_program(METRICS_SERVER, name, "metrics-server")]


def prometheus_images() -> list[Image]:
    """Return the image of Prometheus, whose version is the distribution's."""
    program = str(find_prometheus())
    return [Image(PROMETHEUS_IMAGE, ["prometheus"], programs=[program], folders=["prometheus"], user="65534:65534")]


def of_program(program: Program, name: str, place: str, user: str = "1000:1000") -> Image:
    """Return an image with one program that Go built, at its root."""
    return Image(name, [f"/{place}"], {place: require_program(program)}, user=user)


def redis_image() -> Image:
    """Return the image of Redis: the server of the local stack, and the distribution's client for the probes."""
    server, unpacked = find_redis(), debian_redis().parent / "usr"
    libraries = [
        file for file in unpacked.glob("lib/*/*.so*") if re.search(r"lib(lzf|jemalloc|atomic)\.so\.\d+$", str(file))
    ]
    return Image(
        f"docker.io/library/redis:{redis_version(server)}",
        ["redis-server"],
        files={f"usr/local/lib/{file.name}": file for file in libraries},
        programs=[*SHELL, str(server), str(unpacked / "bin" / "redis-cli")],
        folders=["data"],
        user="999:999",
    )


def elasticsearch_release() -> ElasticsearchRelease:
    """Return the newest release that a Java of this machine can run."""
    return ELASTICSEARCH_9 if find_java(ELASTICSEARCH_9.java, None) is not None else ELASTICSEARCH_8


def elasticsearch_image() -> Image:
    """Return the image of Elasticsearch, with its Java where the official one has it."""
    release = elasticsearch_release()
    java, home = require_java(release.java, None).home.resolve(), require_elasticsearch(release)
    return Image(
        f"docker.elastic.co/elasticsearch/elasticsearch:{release.version}",
        ["/start-elasticsearch"],
        files={ELASTICSEARCH_HOME: home, f"{ELASTICSEARCH_HOME}/jdk": java},
        texts={"start-elasticsearch": START_ELASTICSEARCH},
        programs=SHELL,
        linked=sorted(java.rglob("*.so")),
        folders=[f"{ELASTICSEARCH_HOME}/{name}" for name in ("config", "data", "logs")],
        leave_out=["src.zip", "jmods", "man", "demo", "include"],
        user="1000:1000",
    )


def require_archive(image: Image) -> Path:
    """Return the archive of an image, written the first time, or when what it is made of has changed."""
    content = hashlib.sha256(repr(image).encode()).hexdigest()[:12]
    slug = re.sub(r"[^a-z0-9.]+", "-", image.name.partition("/")[2])
    archive = cache_folder() / "cluster" / "images" / f"{slug}-{content}.tar"
    if not archive.exists():
        with ticking(f"putting together the image {image.name}"):
            image.write(archive)
    return archive


def _pause() -> Path:
    program, source = cache_folder() / "cluster" / "programs" / "pause-1", Path(__file__).with_name("pause.c")
    if not program.exists():
        if shutil.which("cc") is None and can_install():
            install_packages(["gcc", "libc6-dev"])
        if shutil.which("cc") is None:
            raise MissingPartError("There is no C compiler", "apt-get install gcc libc6-dev")
        command = ["cc", "-static", "-Os", "-o", str(program), str(source)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise DevstackError(f"{source.name} could not be compiled: {answer.stderr.strip()}")
    return program
