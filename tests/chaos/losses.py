"""`python -m tests.chaos.losses`: how much of what was acknowledged each failure of Redis takes, by the settings.

For every pair of durability and `appendfsync`, and every way to fail, an API takes hits as fast as a few clients send
them, Redis is killed at a random moment and started again, and what its ledger has then is held against what the
clients were told. Nobody indexes: Redis alone holds the hits. The table in docs/guarantees.md is one such run.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from hitcounter_devstack import RedisServer

from tests.support.client import RecordingClient
from tests.support.forgetful_disk import ForgetfulRedis, SlowRedis
from tests.support.stack import Stack

_NOBODY_LISTENS: Final = "http://127.0.0.1:1"
_LOAD_SECONDS: Final = (4.0, 6.0)
_SLOW_SYNC_MS: Final = 1500
_LOOK_SECONDS: Final = 0.005
_CONNECTIONS: Final = 64

BuildRedis = Callable[[Path, dict[str, str]], RedisServer]
FAILURES: Final[dict[str, BuildRedis]] = {
    "kill": lambda folder, options: RedisServer(folder, options=options),
    "kill during a slow sync": lambda folder, options: SlowRedis(folder, fsync_ms=_SLOW_SYNC_MS, options=options),
    "power cut": lambda folder, options: ForgetfulRedis(folder, options=options),
}
SETTINGS: Final = (
    ("memory", "no"),
    ("memory", "everysec"),
    ("memory", "always"),
    ("disk", "everysec"),
    ("disk", "always"),
)
"""Durability and appendfsync. With `no`, disk is never reached in time, and every such hit gets 503."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one failure took."""

    acknowledged: int
    hits: int
    seconds: float
    """From the first acknowledgement that did not hold until the failure."""


def measure(build: BuildRedis, durability: str, appendfsync: str) -> Loss:
    """Let Redis fail once under load."""
    with (
        tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder,
        build(Path(folder) / "redis", {"appendfsync": appendfsync}) as redis,
        Stack(redis.url, _NOBODY_LISTENS, Path(folder)) as stack,
    ):
        api = stack.api(
            HITCOUNTER_INTAKE__DURABILITY=durability,
            HITCOUNTER_INTAKE__BUDGET_SECONDS="5",  # a slow sync must not end in a time-out
            HITCOUNTER_INTAKE__DISK_BUDGET_SECONDS="5",
        )
        with RecordingClient([api.url], connections=_CONNECTIONS, timeout_seconds=8.0) as client:
            curve = _watch(client, random.uniform(*_LOAD_SECONDS))
            failed = time.monotonic()
            redis.kill()
        acknowledged = client.acknowledged.total()
        redis.start().wait_ready()
        api.service.wait_ready()
        kept = api.status()["accepted"]
    lost = max(0, acknowledged - kept)
    last_held = max((at for at, total in curve if total <= kept), default=failed)
    return Loss(acknowledged, lost, failed - last_held if lost else 0.0)


def _watch(client: RecordingClient, seconds: float) -> list[tuple[float, int]]:
    """Return how many hits had been acknowledged when, looked at all along for so many seconds."""
    end = time.monotonic() + seconds
    curve = []
    while (now := time.monotonic()) < end:
        curve.append((now, client.acknowledged.total()))
        time.sleep(_LOOK_SECONDS)
    return curve


def find_worst(build: BuildRedis, durability: str, appendfsync: str, times: int) -> Loss:
    """Let Redis fail several times; return the failure that took most."""
    return max((measure(build, durability, appendfsync) for _ in range(times)), key=lambda loss: loss.hits)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.losses", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="failures for each row, of which the worst is shown")
    times = parser.parse_args().times
    _say("| failure of Redis | durability | `appendfsync` | acknowledged | of these lost, at worst |")
    _say("| --- | --- | --- | --- | --- |")
    for (failure, build), (durability, appendfsync) in product(FAILURES.items(), SETTINGS):
        worst = find_worst(build, durability, appendfsync, times)
        lost = f"{worst.hits:,} (the last {worst.seconds:.1f} s)" if worst.hits else "0"
        _say(f"| {failure} | {durability} | {appendfsync} | {worst.acknowledged:,} | {lost} |")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
