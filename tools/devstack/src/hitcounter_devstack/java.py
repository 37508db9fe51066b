"""Finds a Java that fits an Elasticsearch version, without changing the default Java of the system."""

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.packages import can_install, install_packages, newest_java_on_offer
from hitcounter_devstack.users import User, can_execute

# Elasticsearch 9 links its own runtime image parts and uses vector instructions; trimmed runtimes lack these.
MODULES_OF_9 = frozenset({"jdk.jlink", "jdk.incubator.vector"})


@dataclass(frozen=True)
class Java:
    """An installed Java runtime."""

    home: Path
    major: int
    modules: frozenset[str]


@dataclass(frozen=True)
class JavaNeed:
    """What an Elasticsearch asks of its Java: at least a version, and some modules."""

    major: int
    modules: frozenset[str] = frozenset()

    def is_met_by(self, java: Java) -> bool:
        """Say whether this Java will do."""
        return java.major >= self.major and self.modules <= java.modules


def find_java(need: JavaNeed, user: User | None) -> Java | None:
    """Return the fitting Java that `user` may execute, or None.

    ES_JAVA_HOME and JAVA_HOME come first, as somebody's explicit wish; then the oldest that fits, as the nearest to
    what that Elasticsearch was made for.
    """
    environment = inherited_environment()
    wished = [Path(environment[name]) for name in ("ES_JAVA_HOME", "JAVA_HOME") if environment.get(name)]
    others = sorted(filter(None, map(inspect_java, _other_homes(environment))), key=lambda java: java.major)
    fitting = (java for java in [*filter(None, map(inspect_java, wished)), *others] if need.is_met_by(java))
    return next((java for java in fitting if can_execute(user, java.home / "bin" / "java")), None)


def require_java(need: JavaNeed, user: User | None) -> Java:
    """Return a fitting Java; on Debian or Ubuntu, root gets the newest of the release when there is none.

    Raises:
        MissingPartError: there is none; says which to install.
    """
    java = find_java(need, user)
    if java is None and can_install() and (newest := newest_java_on_offer()) is not None and newest >= need.major:
        install_packages([f"openjdk-{newest}-jre-headless"])
        java = find_java(need, user)
    if java is None:
        modules = f" with the modules {', '.join(sorted(need.modules))}" if need.modules else ""
        raise MissingPartError(f"No Java {need.major} or newer{modules} was found", install_java_hint(need))
    return java


def install_java_hint(need: JavaNeed) -> str:
    """Say how one gets a Java that fits."""
    return (
        f"install a full JDK {need.major} or newer, or point ES_JAVA_HOME at one "
        f"(Debian, Ubuntu: sudo apt-get install openjdk-{need.major}-jre-headless; "
        f"macOS: brew install openjdk@{need.major}; any system: https://adoptium.net); "
        "with Docker alone: make run-docker"
    )


@functools.cache
def inspect_java(home: Path) -> Java | None:
    """Return the Java in this folder with its version and modules, or None if none works there."""
    program = home / "bin" / "java"
    if not program.exists():
        return None
    version = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', version.stderr)
    if version.returncode != 0 or found is None:
        return None
    modules = subprocess.run([program, "--list-modules"], capture_output=True, text=True, check=False)
    return Java(home, int(found[1]), frozenset(line.split("@")[0] for line in modules.stdout.splitlines()))


def _other_homes(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield each Java home that is not named by a variable, once: the system's folders, PATH, macOS's own list."""
    homes = list(Path("/usr/lib/jvm").glob("*"))
    homes += Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home")
    homes += Path("/opt/homebrew/opt").glob("openjdk*")
    in_path = shutil.which("java", path=environment.get("PATH"))
    if in_path:
        homes.append(Path(in_path).resolve().parent.parent)
    # On macOS /usr/bin/java only says that there is none; java_home knows better.
    helper = Path("/usr/libexec/java_home")
    if helper.exists():
        answer = subprocess.run([helper], capture_output=True, text=True, check=False)
        homes += [Path(answer.stdout.strip())] if answer.returncode == 0 else []
    yield from dict.fromkeys(home.resolve() for home in homes)
