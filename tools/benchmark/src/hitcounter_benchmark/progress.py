"""Progress on standard error: an updated line on a terminal, a line every few seconds elsewhere."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Final

from hitcounter_benchmark.load import Load

_TERMINAL_SECONDS: Final = 0.5
_LOG_SECONDS: Final = 5.0


def say(sentence: str) -> None:
    """Tell what happens next."""
    print(sentence, file=sys.stderr, flush=True)


@contextlib.contextmanager
def showing(load: Load) -> Iterator[None]:
    """Show the load's progress inside the block; needs a running loop."""
    task = asyncio.get_running_loop().create_task(_show(load))
    try:
        yield
    finally:
        task.cancel()
        if sys.stderr.isatty():
            print(file=sys.stderr)


async def _show(load: Load) -> None:
    every_seconds, end = (_TERMINAL_SECONDS, "\r") if sys.stderr.isatty() else (_LOG_SECONDS, "\n")
    loop = asyncio.get_running_loop()
    started = before_time = loop.time()
    before_hits = 0
    while True:
        await asyncio.sleep(every_seconds)
        time, hits = loop.time(), load.tally.acknowledged_hits
        rate = (hits - before_hits) / (time - before_time)
        p90_ms = load.latency.percentile_ns(90) / 1e6
        errors = load.tally.errors.total()
        line = f"{time - started:6.1f} s  {rate:10,.0f} hits/s   p90 {p90_ms:8.2f} ms   errors {errors:,}"
        print(line, end=end, file=sys.stderr, flush=True)
        before_time, before_hits = time, hits
