"""A real Prometheus: scrapes our services, evaluates the rules of the chart, reachable from this machine only.

The program comes from PATH or from the distribution's package, which is unpacked into the cache and not installed: its
installation would start a server. The pages of Debian's build are files of that package, and of those that it takes its
scripts from.
"""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hitcounter_devstack.environment import cache_folder
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.packages import can_use_apt, dependencies, unpack_packages
from hitcounter_devstack.ports import LOCALHOST, http_status
from hitcounter_devstack.processes import LineHandler
from hitcounter_devstack.server import Command, Server

DEFAULT_PORT = 9090
INSTALL_PROMETHEUS = (
    "put a prometheus in PATH (Debian, Ubuntu: hitcounter-devstack setup; macOS: brew install prometheus; "
    "any system: https://prometheus.io/download)"
)
LABELS: Mapping[str, str] = {"namespace": "local", "release": "devstack"}
"""What tells this installation from others: in a cluster, Prometheus and the chart's PodMonitors add these labels."""


class PrometheusServer(Server):
    """A Prometheus server.

    Args:
        data_dir: holds its configuration and what it has seen.
        targets: host and port of every management port to scrape, by the name of the part.
        rules: files of rules to evaluate.
        interval_seconds: between two scrapes, and between two evaluations.
        port: the port to listen on; None takes a free one, once.
        on_line: called with each line of its log.
    """

    name = "prometheus"

    def __init__(
        self,
        data_dir: Path,
        *,
        targets: Mapping[str, Sequence[str]],
        rules: Sequence[Path],
        interval_seconds: float = 5.0,
        port: int | None = None,
        on_line: LineHandler | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, on_line=on_line)
        self.binary = find_prometheus()
        self._targets = targets
        self._rules = rules
        self._interval = f"{int(interval_seconds * 1000)}ms"

    @property
    def url(self) -> str:
        """The URL of its page and of its interface."""
        return f"http://{LOCALHOST}:{self.port}"

    @property
    def alerts_url(self) -> str:
        """The URL of its page of alerts, while it runs: Debian's build has pages of an older kind."""
        page = f"{self.url}/alerts"
        return page if http_status(page) == 200 else f"{self.url}/classic/alerts"

    @functools.cached_property
    def version(self) -> str:
        """The version that the program tells, such as `2.42.0`."""
        answer = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"version (\d+\.\d+\.\d+)", answer.stdout + answer.stderr)
        return found[1] if found else "unknown"

    def is_ready(self) -> bool:
        """Say whether it answers queries now."""
        return http_status(f"{self.url}/-/ready") == 200

    def _prepare(self) -> Command:
        configuration = self.data_dir / "prometheus.yml"
        configuration.write_text(json.dumps(self._build_configuration(), indent=2))  # JSON is YAML
        options = {
            "config.file": configuration,
            "storage.tsdb.path": self.data_dir / "data",
            "storage.tsdb.retention.time": "2d",
            "web.listen-address": f"{LOCALHOST}:{self.port}",
            "log.level": "warn",
        }
        if self.binary == _debian_binary():
            options["web.local-assets"] = f"{_debian_home()}/usr/share/prometheus/web/"
        return Command([str(self.binary), *(f"--{name}={value}" for name, value in options.items())])

    def _build_configuration(self) -> dict[str, object]:
        return {
            "global": {
                "scrape_interval": self._interval,
                "scrape_timeout": self._interval,
                "evaluation_interval": self._interval,
            },
            "rule_files": [str(path.absolute()) for path in self._rules],
            "scrape_configs": [
                {"job_name": part, "static_configs": [{"targets": list(targets), "labels": dict(LABELS)}]}
                for part, targets in self._targets.items()
            ],
        }


def find_prometheus() -> Path:
    """Return a prometheus: that in PATH, or that of this Debian or Ubuntu, downloaded the first time.

    Raises:
        MissingPartError: there is none; says how to get one.
    """
    found = prometheus_at_hand()
    if found is not None:
        return found
    if not can_use_apt():
        raise MissingPartError("No prometheus was found in PATH", INSTALL_PROMETHEUS)
    binary, home = _debian_binary(), _debian_home()
    with exclusive(home.name):
        if not binary.exists():
            unpack_packages(_with_pages("prometheus"), home)
    return binary


def prometheus_at_hand() -> Path | None:
    """Return the prometheus that is here already, if there is one; fetches nothing."""
    in_path = shutil.which("prometheus")
    candidates = [Path(in_path)] if in_path else []
    return next((path for path in [*candidates, _debian_binary()] if path.exists()), None)


def _with_pages(name: str) -> list[str]:
    """Return a package, and all that bring scripts, styles and fonts to it."""
    names = [name]
    for known in names:  # and those that are found on the way
        of_pages = [other for other in dependencies(known) if other.startswith(("libjs-", "fonts-"))]
        names += [other for other in of_pages if other not in names]
    return names


def _debian_home() -> Path:
    return cache_folder() / "prometheus-debian-with-pages"


def _debian_binary() -> Path:
    return _debian_home() / "usr" / "bin" / "prometheus"
