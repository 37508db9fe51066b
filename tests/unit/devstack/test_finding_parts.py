"""What the local stack takes, refuses and says, without starting a server."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hitcounter_devstack.console import Console, is_elasticsearch_warning, is_redis_warning
from hitcounter_devstack.distributions import (
    ELASTICSEARCH_8,
    ELASTICSEARCH_9,
    ElasticsearchRelease,
    require_elasticsearch,
)
from hitcounter_devstack.errors import DevstackError, MissingPartError
from hitcounter_devstack.java import MODULES_OF_9, Java, JavaNeed
from hitcounter_devstack.ports import FALLBACK_PORTS, free_port, hold_port, is_free
from hitcounter_devstack.redis_binaries import find_redis
from hitcounter_devstack.stores import choose_port

FULL_JAVA_25 = Java(Path("/jdk-25"), 25, MODULES_OF_9 | {"java.base"})
TRIMMED_JAVA_25 = Java(Path("/jre-25"), 25, frozenset({"java.base"}))
JAVA_17 = Java(Path("/jdk-17"), 17, MODULES_OF_9)

MAVEN_THAT_BRINGS_SOMETHING_ELSE = """\
#!/bin/sh
for word in "$@"; do
    case $word in -Dmaven.repo.local=*) echo "not the real thing" > "${word#*=}/elasticsearch-0.0.0.zip" ;; esac
done
"""


@pytest.mark.parametrize(
    ("release", "java", "fits"),
    [
        (ELASTICSEARCH_8, JAVA_17, True),
        (ELASTICSEARCH_9, JAVA_17, False),
        (ELASTICSEARCH_9, FULL_JAVA_25, True),
        (ELASTICSEARCH_9, TRIMMED_JAVA_25, False),
    ],
)
def test_a_java_fits_by_its_version_and_its_modules(release: ElasticsearchRelease, java: Java, fits: bool) -> None:
    assert release.java.is_met_by(java) is fits


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text(MAVEN_THAT_BRINGS_SOMETHING_ELSE)
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    release = ElasticsearchRelease("0.0.0", JavaNeed(17), "ab" * 64)
    with pytest.raises(DevstackError, match="Nothing was installed"):
        require_elasticsearch(release)
    assert not release.is_unpacked
    assert not list(release.home.parent.glob("download-*/elasticsearch-0.0.0*"))


def test_a_redis_that_nobody_has_is_refused_with_what_to_do() -> None:
    with pytest.raises(MissingPartError, match=r"No redis-server 1\.0 was found.*To fix it: put a redis-server 1\.0"):
        find_redis("1.0")


def test_the_preferred_port_is_given_once_unless_somebody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        assert hold_port(taken) in FALLBACK_PORTS
    assert hold_port(taken) == taken
    assert hold_port(taken) in FALLBACK_PORTS


def test_a_port_that_is_chosen_is_held_before_anything_listens_and_until_its_process_is_killed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    hold = f"from hitcounter_devstack.ports import hold_port; print(hold_port({port}), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == port
        assert is_free(port)
        assert hold_port(port) != port
        other.kill()
    assert hold_port(port) == port


def test_a_free_port_is_given_to_no_other_process_before_a_hundred_others_were_given() -> None:
    first = free_port()
    hold = f"from hitcounter_devstack.ports import hold_port; print(hold_port({first}))"

    def ask_elsewhere() -> int:
        return int(subprocess.run([sys.executable, "-c", hold], capture_output=True, check=True).stdout)

    assert ask_elsewhere() != first
    assert len({free_port() for _ in range(100)} | {first}) == 101
    assert ask_elsewhere() == first


def test_a_part_whose_usual_port_is_taken_gets_a_free_one_and_says_so() -> None:
    told = io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        port = choose_port("redis", taken, Console(told))
    assert f"port {taken} is taken: redis gets {port}" in told.getvalue()


def test_only_warnings_of_the_stores_are_shown() -> None:
    assert is_redis_warning("77:M 24 Nov 2026 01:14:06.776 # Write error writing append only file on disk")
    assert not is_redis_warning("77:M 24 Nov 2026 01:14:06.776 * Ready to accept connections tcp")
    assert not is_redis_warning("77:M 24 Nov 2026 01:14:06.776 # WARNING Memory overcommit must be enabled!")
    assert is_elasticsearch_warning("[2026-11-24T01:17:22,585][WARN ][o.e.c.r.a.DiskThresholdMonitor] high disk")
    assert not is_elasticsearch_warning("[2026-11-24T01:17:22,585][INFO ][o.e.n.Node               ] started")
    assert not is_elasticsearch_warning("[2026-11-24T01:17:22,585][WARN ][o.e.b.BootstrapChecks    ] max file")
