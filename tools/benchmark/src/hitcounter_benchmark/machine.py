"""Describes the machine of a measurement, as far as it is known."""

import os
import platform
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_BUSY_FIELDS: Final = (1, 2, 3, 6, 7, 8)
"""Of a line of /proc/stat: user, nice, system, irq, softirq, steal (see proc(5))."""


def describe_machine() -> dict[str, object]:
    """Return processor, cores that we may use, how busy they are, memory and system, ready for JSON."""
    return {
        "processor": _read_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": count_cores(),
        "load_average": read_load_average(),
        "memory": _read_field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
    }


def use_cores(number: int) -> None:
    """Keep this process, and every process it starts from now on, on so many cores.

    Raises:
        ValueError: There are not as many.
    """
    cores = sorted(os.sched_getaffinity(0))
    if number > len(cores):
        raise ValueError(f"{number} cores were asked for, and there are {len(cores)}")
    os.sched_setaffinity(0, cores[:number])


def read_busy_seconds() -> float:
    """Return the CPU seconds that all processes together have used on the cores that this process may use.

    Time that the hypervisor gave to other machines is among them.
    """
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    ticks = sum(sum(int(fields[place]) for place in _BUSY_FIELDS) for fields in lines if fields[0] in cores)
    return ticks / _TICKS_PER_SECOND


def count_cores() -> int:
    """Return the cores that this process may use: fewer than the machine's under ``taskset``."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_load_average() -> float:
    """Return how many processes wanted a core during the last minute: near 0 on a machine fit for measuring."""
    return round(os.getloadavg()[0], 2)


def _read_field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
