"""Runs kubectl port-forward while it is needed, and makes sure that the port is not that of another server."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hitcounter_devstack import LOCALHOST, StartError

_READY_SECONDS: Final = 30.0


@contextlib.contextmanager
def forwarded(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a `kubectl port-forward` to a local port while the block runs.

    kubectl tries 127.0.0.1 and ::1, and goes on without a word if it gets only one of them. Whoever has the other is
    then asked in place of the pod. So it must say that it has 127.0.0.1.

    Raises:
        StartError: it has not, or not in time; with all that it said.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(environment)
    ) as process:
        try:
            _await_forwarding(process, f"Forwarding from {LOCALHOST}:{port} ")
            yield
        finally:
            process.terminate()


def _await_forwarding(process: "subprocess.Popen[str]", sentence: str) -> None:
    said = ""
    giving_up = threading.Timer(_READY_SECONDS, process.kill)
    giving_up.start()
    try:
        for line in process.stdout or ():
            said += line
            if line.startswith(sentence):
                return
            if line.startswith("Forwarding from"):  # 127.0.0.1 comes first
                break
    finally:
        giving_up.cancel()
    raise StartError(f"the port is not forwarded, as somebody else may have it:\n{said}")
