"""CPU time and memory of processes, from /proc of Linux."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds over a period, and the peak resident memory of the process."""

    cpu_seconds: float
    peak_memory_mb: float


def read_cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds of each named process since its start, for all of its threads."""
    return {name: _read_cpu_seconds(pid) for name, pid in pids.items()}


def read_usage(pids: Mapping[str, int], since: Mapping[str, float]) -> dict[str, Usage]:
    """Return what each named process used since `read_cpu_seconds` was called."""
    seconds = read_cpu_seconds(pids)
    return {name: Usage(seconds[name] - since[name], _read_memory_mb(pid, "VmHWM:")) for name, pid in pids.items()}


def _read_cpu_seconds(pid: int) -> float:
    # The name, in brackets, may hold anything; utime and stime are fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _read_memory_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
