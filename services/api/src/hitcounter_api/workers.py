"""Several workers behind one port: a supervisor that starts them, looks at them, replaces them, and stops them.

    clients ──▶ one listening socket, from which every worker accepts
                  worker 0    worker 1    worker 2     each a whole API: its own loop, intake and connections
                     │           │           │         a channel to each: readiness and metrics, on request
                     └─────── supervisor ────┘──▶ /livez /readyz /metrics of the management port

The supervisor serves no request and imports nothing of the API, so it has little that could fail. All share the socket
itself, not only its port: what waits in its queue is taken by another worker when one dies. A worker whose channel ends
has lost its supervisor, and stops as by SIGTERM.

Each series at /metrics is a worker's own and names it (`worker="2"`). Prometheus treats processes so anyway: counters
start anew with the worker that takes a dead one's place, gauges of the dead are gone, and nothing has to be added up
here. One process in a pod remains the rule; this is for machines without Kubernetes.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

import orjson
from hitcounter.backoff import backoff_seconds
from hitcounter.health import Readiness
from hitcounter.logs import get_logger
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

WORKERS: Final = "workers"
DRAINING: Final = "draining"
_READINESS: Final = b"readiness\n"
_METRICS: Final = b"metrics\n"
_LOOK_SECONDS: Final = 1.0
_ANSWER_MAX_BYTES: Final = 16 * 1024 * 1024
_SCRAPE_MAX_SECONDS: Final = 3.0
_SILENT_SECONDS: Final = 10.0
"""A worker that says nothing for so long hangs."""
_STABLE_SECONDS: Final = 30.0
"""A worker that lived for so long did not die of its start."""

log = get_logger()


# ── a worker's side ─────────────────────────────────────────────────────────────────────────────────────────────────


async def answer_supervisor(channel: socket.socket, registry: CollectorRegistry, readiness: Readiness) -> None:
    """Answer the supervisor's questions until it is gone; then stop as by its signal, the first or the second."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    try:
        while question := await reader.readline():
            answer = generate_latest(registry).decode() if question == _METRICS else readiness.problems
            writer.write(orjson.dumps(answer) + b"\n")
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
    log.error("the supervisor is gone")
    signal.raise_signal(signal.SIGTERM)


# ── the supervisor's side ───────────────────────────────────────────────────────────────────────────────────────────


class _Worker:
    """One process, from its start to its end."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.started_at = asyncio.get_running_loop().time()
        self.answered_at = self.started_at
        self.is_ready = False
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    async def ask(self, question: bytes) -> Any:
        """Return the answer, None if the worker is gone. Never cancel it: the next would get its answer."""
        async with self._turn:
            try:
                self._writer.write(question)
                answer = await self._reader.readline()
            except ConnectionError:
                return None
        if not answer:
            return None
        self.answered_at = asyncio.get_running_loop().time()
        return orjson.loads(answer)

    def close(self) -> None:
        """Let go of a worker that has ended."""
        self._writer.close()


class Supervisor:
    """Keeps a number of workers running over one listening socket, which belongs to the caller."""

    def __init__(self, number: int, listener: socket.socket, readiness: Readiness) -> None:
        self._number = number
        self._listener = listener
        self._readiness = readiness
        self._workers: dict[int, _Worker] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> bool:
        """Keep them running until stopped; return whether all of them drained as they should."""
        watching = asyncio.create_task(self._watch(), name="watch workers")
        try:
            codes = await asyncio.gather(*(self._keep(seat) for seat in range(self._number)))
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        return all(code in (0, -signal.SIGTERM) for code in codes)  # by the signal: it had not begun yet

    def stop(self) -> None:
        """Have all workers drain; `run` returns when they have."""
        self._readiness.set_problem(DRAINING, "this process is about to stop")
        self._stopping.set()
        self._listener.close()
        for worker in self._workers.values():
            if worker.process.returncode is None:
                worker.process.terminate()

    def is_alive(self) -> bool:
        """Tell whether no worker hangs."""
        now = asyncio.get_running_loop().time()
        return all(now - worker.answered_at < _SILENT_SECONDS for worker in self._workers.values())

    async def render_metrics(self) -> bytes:
        """Return the metrics of all workers that answer in time."""
        asking = {
            asyncio.create_task(worker.ask(_METRICS)): str(seat) for seat, worker in sorted(self._workers.items())
        }
        if asking:
            await asyncio.wait(asking, timeout=_SCRAPE_MAX_SECONDS)
        return merge_metrics({seat: task.result() for task, seat in asking.items() if task.done() and task.result()})

    async def _keep(self, seat: int) -> int:
        """Have one worker after the other in a seat; return the exit code of the last."""
        attempt = 0
        while True:
            worker = await self._start(seat)
            code = await worker.process.wait()
            del self._workers[seat]
            worker.close()
            if self._stopping.is_set():
                return code
            lived_seconds = asyncio.get_running_loop().time() - worker.started_at
            attempt = 0 if lived_seconds > _STABLE_SECONDS else attempt + 1
            log.error("a worker ended, another takes its place", worker=seat, exit_code=code)
            if await self._is_stopped_within(backoff_seconds(attempt)):
                return 0

    async def _start(self, seat: int) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            files = (self._listener.fileno(), theirs.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hitcounter_api", "--seat", ",".join(map(str, (seat, *files)))),
                pass_fds=files,
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor, which passes it on once
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_ANSWER_MAX_BYTES)
        worker = self._workers[seat] = _Worker(process, reader, writer)
        log.info("started a worker", worker=seat, pid=process.pid)
        if self._stopping.is_set():
            process.terminate()
        return worker

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        """Look at the workers again and again: ready is who has one that is."""
        while True:
            asking = [asyncio.create_task(self._look_at(worker)) for worker in self._workers.values()]
            await asyncio.wait([*asking, asyncio.create_task(asyncio.sleep(_LOOK_SECONDS))])
            if any(worker.is_ready for worker in self._workers.values()):
                self._readiness.clear(WORKERS)
            else:
                self._readiness.set_problem(WORKERS, "none is ready")

    async def _look_at(self, worker: _Worker) -> None:
        worker.is_ready = await worker.ask(_READINESS) == {}


class _Merged(Collector):
    """The families of all workers, as a registry wants them."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return list(self._families.values())


def merge_metrics(texts: Mapping[str, str]) -> bytes:
    """Return one exposition of several: each family once, each series with the worker that it is of."""
    families: dict[str, Metric] = {}
    for worker, text in texts.items():
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "worker": worker}))
    registry = CollectorRegistry()
    registry.register(_Merged(families))
    return generate_latest(registry)
