import subprocess
import sys
import time
from pathlib import Path

import pytest
from hitcounter_benchmark.processes import read_cpu_seconds
from hitcounter_benchmark.throttle import Budget, throttled

SPIN = "while True: pass"


def test_a_process_that_used_more_than_its_share_has_to_wait() -> None:
    budget = Budget(0.1)
    assert not budget.has_left(0.01, 0.01)
    assert not budget.has_left(0.05, 0.0)
    assert budget.has_left(0.05, 0.0)


def test_what_is_not_used_cannot_be_saved_up_without_bound() -> None:
    budget = Budget(0.5)
    assert budget.has_left(3600.0, 0.0)
    assert not budget.has_left(0.01, 0.1)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the throttle reads /proc/PID/schedstat: Linux")
def test_a_spinning_process_is_held_to_its_share_and_then_let_go() -> None:
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        before = read_cpu_seconds({"spinning": process.pid})["spinning"]
        started = time.monotonic()
        with throttled([process.pid], 0.1):
            time.sleep(1.5)  # the stretch that is measured
        seconds = time.monotonic() - started
        held = read_cpu_seconds({"spinning": process.pid})["spinning"] - before
        assert held / seconds < 0.25
        assert "T" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    finally:
        process.kill()
        process.wait()
