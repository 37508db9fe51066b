"""Lists what the stack and its tests need, what this machine has, and how to get the rest. It installs nothing."""

import functools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hitcounter_devstack.browser import FIX as INSTALL_BROWSER
from hitcounter_devstack.browser import find_browser, require_browser
from hitcounter_devstack.console import Console
from hitcounter_devstack.distributions import (
    ELASTICSEARCH_8,
    ELASTICSEARCH_9,
    ElasticsearchRelease,
    require_elasticsearch,
)
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.java import find_java, install_java_hint, require_java
from hitcounter_devstack.prometheus import INSTALL_PROMETHEUS, find_prometheus, prometheus_at_hand
from hitcounter_devstack.redis_binaries import find_redis, redis_servers
from hitcounter_devstack.users import unprivileged_user

SETUP = "hitcounter-devstack setup (make servers)"
REDIS_LINES = ("8.2", "7.0")
RELEASES = (ELASTICSEARCH_8, ELASTICSEARCH_9)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        what: its name.
        found: what there is of it; None when it is missing.
        fix: the command or the deed that would bring it.
    """

    what: str
    found: str | None
    fix: str


def examine() -> list[Finding]:
    """Look for everything that `run` and the tests use."""
    servers = redis_servers()
    findings = []
    for line in REDIS_LINES:
        found = next((f"{version}  {path}" for version, path in servers.items() if version.startswith(line)), None)
        findings.append(Finding(f"Redis {line}", found, SETUP))
    for release in RELEASES:
        java = find_java(release.java, unprivileged_user())
        found = None if java is None else f"{java.major}  {java.home}"
        what = f"Java for Elasticsearch {release.version}"
        findings.append(Finding(what, found, install_java_hint(release.java)))
        unpacked = str(release.home) if release.is_unpacked else None
        findings.append(Finding(f"Elasticsearch {release.version}", unpacked, SETUP))
    maven = "apt-get install maven, or brew install maven (needed for downloads only)"
    findings.append(Finding("Maven", shutil.which("mvn"), maven))
    browser = find_browser()
    findings.append(Finding("Chromium", None if browser is None else str(browser), INSTALL_BROWSER))
    prometheus = prometheus_at_hand()
    findings.append(Finding("Prometheus", None if prometheus is None else str(prometheus), INSTALL_PROMETHEUS))
    return findings


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """Print one line for each finding, and what would bring the missing ones."""
    for finding in findings:
        state = finding.found if finding.found is not None else f"{console.strong('missing')}: {finding.fix}"
        console.say(f"{finding.what:<30} {state}")


def can_run(findings: Iterable[Finding]) -> bool:
    """Say whether `run` would find a Redis and an Elasticsearch with its Java, as things are."""
    here = {finding.what for finding in findings if finding.found is not None}
    has_redis = any(f"Redis {line}" in here for line in REDIS_LINES)
    has_elasticsearch = any(_names(release) <= here for release in RELEASES)
    return has_redis and has_elasticsearch


def fetch_all(console: Console) -> None:
    """Bring everything that can be had here without a question to the user; says what could not."""
    wishes: list[Callable[[], object]] = [functools.partial(find_redis, line) for line in REDIS_LINES]
    wishes += [functools.partial(_fetch, release) for release in RELEASES]
    wishes += [require_browser, find_prometheus]
    for wish in wishes:
        try:
            wish()
        except MissingPartError as error:
            console.say(str(error))


def _fetch(release: ElasticsearchRelease) -> None:
    require_java(release.java, unprivileged_user())
    require_elasticsearch(release)


def _names(release: ElasticsearchRelease) -> set[str]:
    return {f"Elasticsearch {release.version}", f"Java for Elasticsearch {release.version}"}
