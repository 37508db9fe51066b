"""Load on an installation in the cluster, by the client of the chaos level, which keeps its own record."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from typing import Final

import uvloop
from hitcounter_benchmark.schedule import OpenLoop, Profile, intended_times_ns, steady
from hitcounter_benchmark.target import Target

from tests.chaos.client import OpenLoopClient
from tests.chaos.hits import HitMaker
from tests.chaos.record import Record, find_difference
from tests.cluster.installation import Installation
from tests.support.stack import wait_until
from tests.support.verdict import LONGEST

_CLEAR_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 180.0


class Load:
    """Sends hits whatever happens; a context manager that sends until its profile ends or its block is left.

    Attributes:
        record: what became of each hit.
        client: the one who sends, with its latencies and what it has to complain about.
    """

    def __init__(self, installation: Installation, profile: Profile, *, seed: int = 1) -> None:
        self._installation = installation
        # Straight to the node's port: a port-forward is no way for load.
        host, _, port = installation.api.url.removeprefix("http://").partition(":")
        prefix = f"{secrets.token_hex(4)}/"
        self.record = Record()
        self.client = OpenLoopClient(
            [Target(host, int(port))],
            self.record,
            pace=OpenLoop(intended_times_ns(profile), give_up_seconds=sum(stretch.seconds for stretch in profile)),
            hits=HitMaker(seed, prefix),
            seed=seed,
        )
        self.seconds = sum(stretch.seconds for stretch in profile)
        self.begun = 0.0
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="load")
        self._task: asyncio.Task[None]

    def __enter__(self) -> Load:
        self.begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(lambda: self._task.cancel())
        self._thread.join()

    @property
    def acknowledged(self) -> int:
        """Hits acknowledged so far."""
        return self.record.acknowledged_attempts

    def wait_for(self, hits: int, timeout_seconds: float = 120.0) -> None:
        """Wait until so many more were acknowledged."""
        goal = self.acknowledged + hits
        wait_until(lambda: self.acknowledged, lambda seen: seen >= goal, timeout_seconds)

    def stop(self) -> None:
        """Send no more, and wait until no hit with a key is in doubt."""
        self.client.stop_sending()
        self.wait_over()

    def wait_over(self) -> None:
        """Wait until the profile has ended and the outcome of every hit with a key is known."""
        wait_until(lambda: self.client.is_clear, bool, self.seconds + _CLEAR_SECONDS)

    def assert_counted_exactly(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Every id: acknowledged <= counted <= acknowledged + unknown, exactly with keys; and the ledger balances."""
        api = self._installation.api
        status = api.wait_drained(drain_seconds)
        wrong = {}
        for id_, known in self.record.ids.items():
            counted = api.counts(id_)[LONGEST]
            if find_difference(known, counted):
                wrong[id_] = (known.acknowledged, counted, known.doubtful)
        assert not wrong, f"(acknowledged, counted, unknown) of the wrong ids: {wrong}"
        assert not self.client.complaints, self.client.complaints[:5]
        assert (status["backlog"], status["dead"]) == (0, 0)
        assert status["accepted"] == status["indexed"] + status["duplicate"]

    def _run(self) -> None:
        self._task = self._loop.create_task(self.client.run(time.perf_counter_ns()))
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()


def steady_load(installation: Installation, rate: float, seconds: float) -> Load:
    """Return load at one rate."""
    return Load(installation, steady(rate, seconds))
