"""What watching costs a hit: the API's path with its metrics, without them, and with traces, in turns in one process.

    .venv/bin/python tools/watching.py [ROUNDS]

What is measured is processor time of everything that the API does for a hit, from the bytes of its request to those
of its answer, but for the sockets and Redis: with those, each share would be smaller. Requests come over so many
connections at once, and share batches as they do in service: metrics are counted once a batch, so they weigh most where
each hit is a batch of its own. The variants take turns, a few milliseconds each and in a drawn order, so that whatever
else the machine does hits all of them alike; shown is the median, over all rounds, of a variant's time against that of
the usual parts in the same round, and the quartiles around it.

Beside the house like tools/docgen.py: the other tools know our commands alone.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final, Self, cast

import uvloop
from hitcounter.codec import PRODUCER_BYTES, HitBatch, encode
from hitcounter.entries import Durability
from hitcounter.metrics import create_registry
from hitcounter.tracing import build_provider, get_tracer
from hitcounter_api.__main__ import build_config
from hitcounter_api.app import read_clock_ms
from hitcounter_api.hot_path import HotPath
from hitcounter_api.intake import Intake, Intakes
from hitcounter_api.metrics import ApiMetrics, create_metrics
from hitcounter_api.protocol import ApiProtocol
from hitcounter_api.settings import HttpSettings
from hitcounter_api.tracing import TracedHotPath, TracedIntake
from opentelemetry.sdk.trace import SpanProcessor
from uvicorn.server import ServerState

ROUNDS: Final = 400
HITS_A_TURN: Final = 512
CONNECTIONS: Final = (1, 8, 64)
USUAL: Final = "the usual parts"

_BODY: Final = b'{"id":"/blog/2026/11/24/a-post-of-usual-length"}'
_HEAD: Final = (
    b"POST /analytics HTTP/1.1\r\n"
    b"host: 127.0.0.1:8001\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
)
_TRACED: Final = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"


def main(arguments: list[str]) -> None:
    """Measure, and print a table."""
    rounds = int(arguments[0]) if arguments else ROUNDS
    print(f"{'connections':>11}  {'variant':<34} {'µs a hit':>8}  {'against the usual parts':>23}")
    for connections in CONNECTIONS:
        for name, found in uvloop.run(measure(connections, rounds)).items():
            low, middle, high = (f"{100 * (share - 1):+.1f}" for share in found.shares)
            print(f"{connections:>11}  {name:<34} {found.hit_us:>8.1f}  {middle:>8} % ({low} to {high})")


@dataclass(frozen=True)
class Finding:
    """What was found of a variant."""

    hit_us: float
    """Median processor time of a hit."""
    shares: tuple[float, float, float]
    """Quartiles of its time against that of the usual parts in the same round."""


async def measure(connections: int, rounds: int) -> dict[str, Finding]:
    """Let the variants take turns for so many rounds."""
    variants = build_variants(connections)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 10):
        for name in random.sample(list(variants), len(variants)):
            start = time.thread_time()
            await variants[name].take(HITS_A_TURN)
            if number >= 10:  # the first ones warm up
                seconds[name].append(time.thread_time() - start)
    return {name: _sum_up(taken, seconds[USUAL]) for name, taken in seconds.items()}


def _sum_up(taken: list[float], usual: list[float]) -> Finding:
    low, middle, high = statistics.quantiles((mine / theirs for mine, theirs in zip(taken, usual, strict=True)), n=4)
    return Finding(statistics.median(taken) / HITS_A_TURN * 1e6, (low, middle, high))


def build_variants(connections: int) -> Mapping[str, Clients]:
    """Return the clients of each variant."""
    real = create_metrics(create_registry("api"))
    nothing = ApiMetrics(**{field.name: cast(Any, Nothing()) for field in fields(ApiMetrics)})
    traced_request = _HEAD % (len(_BODY), _TRACED) + _BODY
    return {
        USUAL: Clients(connections, build_hot_path(real)),
        "the same once more": Clients(connections, build_hot_path(create_metrics(create_registry("api")))),
        "no metrics at all": Clients(connections, build_hot_path(nothing)),
        "traces on, none drawn": Clients(connections, build_traced(0)),
        "traces on, 1 % drawn": Clients(connections, build_traced(0.01)),
        "traces on, every request traced": Clients(connections, build_traced(0), traced_request),
    }


def build_hot_path(
    metrics: ApiMetrics,
    make_intake: Callable[..., Intake] = Intake,
    make_hot_path: Callable[..., HotPath] = HotPath,
) -> HotPath:
    """Return the hot path over an intake of its own."""
    intake = make_intake(EncodingStream(), metrics, producer=bytes(PRODUCER_BYTES), limit=20_000, budget_seconds=1.0)
    return make_hot_path(Intakes({Durability.MEMORY: intake}, Durability.MEMORY), metrics, read_clock_ms)


def build_traced(sample_ratio: float) -> HotPath:
    """Return the hot path of an API that traces that share of the requests without a trace of their own."""
    tracer = get_tracer(build_provider("api", DropSpans()))
    return build_hot_path(
        create_metrics(create_registry("api")),
        partial(TracedIntake, tracer=tracer),
        partial(TracedHotPath, tracer=tracer, sample_ratio=sample_ratio),
    )


class Clients:
    """So many connections, over each of which one request after the other is sent; all of them at once."""

    def __init__(self, connections: int, hot_path: HotPath, request: bytes = _HEAD % (len(_BODY), b"") + _BODY) -> None:
        self._request = request
        self._waiting = 0
        self._answered = asyncio.Event()
        config = build_config(_App(hot_path), HttpSettings())
        config.load()
        state = ServerState()
        self._connections = []
        for _ in range(connections):
            protocol = ApiProtocol(config, state, {})
            protocol.connection_made(_Transport(self))  # type: ignore[arg-type]  # as much of one as is used
            self._connections.append(protocol)

    async def take(self, hits: int) -> None:
        """Send so many hits, and await their answers."""
        for _ in range(hits // len(self._connections)):
            self._answered.clear()
            self._waiting = len(self._connections)
            for connection in self._connections:
                connection.data_received(self._request)
            await self._answered.wait()

    def note_answer(self, answer: bytes) -> None:
        """Take an answer."""
        if not answer.startswith(b"HTTP/1.1 204"):
            raise AssertionError(answer)
        self._waiting -= 1
        if not self._waiting:
            self._answered.set()


class _App:
    def __init__(self, hot_path: HotPath) -> None:
        self.hot_path = hot_path

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        raise AssertionError("every request takes the fast path")


class _Transport:
    """What a protocol writes to."""

    def __init__(self, clients: Clients) -> None:
        self.write = clients.note_answer

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        """Do nothing."""


class EncodingStream:
    """In the place of Redis: makes the entry, and answers in the next turn of the loop."""

    async def append(self, batch: HitBatch, *, timeout_seconds: float, durability: Durability) -> None:
        """Encode the batch."""
        encode(batch)
        await asyncio.sleep(0)


class Nothing:
    """In the place of any metric."""

    def labels(self, *_: object) -> Self:
        """Return itself."""
        return self

    def inc(self, *_: object) -> None:
        """Count nothing."""

    def observe(self, *_: object) -> None:
        """Observe nothing."""

    def set_function(self, *_: object) -> None:
        """Show nothing."""

    def time(self) -> Self:
        """Measure nothing."""
        return self

    def __enter__(self) -> None:
        """Begin nothing."""

    def __exit__(self, *_: object) -> None:
        """End nothing."""


class DropSpans(SpanProcessor):
    """In the place of the exporter, whose thread would be measured or not by chance."""


if __name__ == "__main__":
    main(sys.argv[1:])
