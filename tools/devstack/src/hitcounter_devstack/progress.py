"""Progress during long operations: an updated line on a terminal, a line every few seconds elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TERMINAL_SECONDS = 0.5
PLAIN_SECONDS = 5.0


def say(sentence: str) -> None:
    """Tell the user one thing, on standard error."""
    print(f"devstack      {sentence}", file=sys.stderr, flush=True)


@contextmanager
def ticking(what: str, measure: Callable[[], str] = str) -> Iterator[None]:
    """Show that `what` goes on until the block ends, with the seconds, and a measure if there is one."""
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(what, measure, done), daemon=True)
    say(what)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def _tick(what: str, measure: Callable[[], str], done: threading.Event) -> None:
    started = time.monotonic()
    in_terminal = sys.stderr.isatty()
    while not done.wait(TERMINAL_SECONDS if in_terminal else PLAIN_SECONDS):
        progress = ", ".join(filter(None, [measure(), f"{time.monotonic() - started:.0f} s"]))
        line = f"devstack      {what}: {progress}"
        print(f"\r{line}\033[K" if in_terminal else line, end="" if in_terminal else "\n", file=sys.stderr, flush=True)
    if in_terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
