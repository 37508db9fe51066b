"""The rules of the chart, with every duration a hundredth of what it is.

    [5m] → [8s]      for: 15m → for: 9s      oldest age > 60 → > 5      30 s of arrivals → 5 s

Ranges stay long enough for a rate, and for a stack that stands still for some seconds while the machine has other work;
ages stay well above those under normal load. Expressions are otherwise left alone: what is tried here is what the
chart ships.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

SPEED_UP = 100
LEAST_RANGE_SECONDS = 8.0
LEAST_AGE_SECONDS = 5
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def shorten_rules(source: Path, target: Path) -> Path:
    """Write the rules of one file into another, with shorter durations; return that one."""
    rules = yaml.safe_load(source.read_text())
    for group in rules["groups"]:
        group["rules"] = [shorten_rule(rule) for rule in group["rules"]]
    target.write_text(yaml.safe_dump(rules))
    return target


def shorten_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule with shorter durations."""
    shortened = {**rule, "expr": shorten_expression(rule["expr"])}
    if "for" in rule:
        shortened["for"] = _show(_read(rule["for"]) / SPEED_UP)
    return shortened


def shorten_expression(expression: str) -> str:
    """Return an expression with shorter ranges, horizons and ages."""

    def shorten_range(found: re.Match[str]) -> str:
        return f"[{_show(max(LEAST_RANGE_SECONDS, _read(found[1]) / SPEED_UP))}]"

    def shorten_age(found: re.Match[str]) -> str:
        return f"{found[1]}{max(LEAST_AGE_SECONDS, int(found[2]) // SPEED_UP)}{found[3]}"

    expression = re.sub(r"\[(\d+[smh])\]", shorten_range, expression)
    expression = re.sub(r"(predict_linear\(.*\], )(\d+)(\))", shorten_age, expression)
    expression = re.sub(r"(oldest_age_seconds:max\{[^}]*\}\)? > )(\d+)()", shorten_age, expression)
    return re.sub(r"(backlog_hits:max\{[^}]*\} > )(\d+)( \* hitcounter:accepted_hits)", shorten_age, expression)


def _read(duration: str) -> float:
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def _show(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
