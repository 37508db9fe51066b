"""The machine that a figure was measured on, as far as it will say."""

import os
import platform
from pathlib import Path


def describe_machine() -> dict[str, object]:
    """Return processor, cores that we may use, how busy they are, memory and system, ready for JSON."""
    return {
        "processor": _read_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": count_cores(),
        "load_average": read_load_average(),
        "memory": _read_field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
    }


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
