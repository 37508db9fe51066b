"""What a soak has shown: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.report import Report
from tests.soak.judge import Breach, format_time

GOOD: Final = 0
BAD: Final = 1
TOO_BUSY: Final = 3
"""Exit codes. (2 is what a wrong command line gets.)"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened around one fault."""

    kind: str
    victim: str
    began_seconds: float
    lasted_seconds: float
    recovery_seconds: float
    """From its end until the oldest hit and the as-of were as usual."""
    worst_today_lag_seconds: float
    worst_as_of_lag_seconds: float
    entries_in_flight: int
    """When it began."""


@dataclass(frozen=True, slots=True)
class SoakReport:
    """The outcome of one soak."""

    run: Report
    command: str
    outcomes: Sequence[Outcome]
    breaches: Sequence[Breach]
    figures: Mapping[str, float] = field(default_factory=dict)
    memory_mib: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of each process: before the first fault, and at most."""

    @property
    def exit_code(self) -> int:
        """GOOD, BAD, or TOO_BUSY where only the machine may be to blame."""
        if not self.run.is_good or any(breach.is_judged for breach in self.breaches):
            return BAD
        return TOO_BUSY if self.breaches else GOOD

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            **self.run.as_json(),
            "command": self.command,
            "exit_code": self.exit_code,
            "outcomes": [
                {name: _round(getattr(outcome, name)) for name in Outcome.__dataclass_fields__}
                for outcome in self.outcomes
            ],
            "breaches": [
                {name: _round(getattr(breach, name)) for name in Breach.__dataclass_fields__}
                for breach in self.breaches
            ],
            "figures": {name: _round(value) for name, value in self.figures.items()},
            "memory_mib": {name: [round(size, 1) for size in sizes] for name, sizes in self.memory_mib.items()},
        }

    def render(self) -> str:
        """Return the report as text; its last lines say what was wrong, if anything was."""
        lines = [
            self.run.render(),
            "",
            f"{'fault':<32} {'at':>6} {'lasted':>7} {'in flight':>10} {'as-of behind':>13} {'today behind':>13} "
            f"{'normal after':>13}",
            *(
                f"{outcome.kind:<32} {format_time(outcome.began_seconds):>6} {outcome.lasted_seconds:>6.0f}s "
                f"{outcome.entries_in_flight:>10} {outcome.worst_as_of_lag_seconds:>12.1f}s "
                f"{outcome.worst_today_lag_seconds:>12.1f}s {outcome.recovery_seconds:>12.1f}s"
                for outcome in self.outcomes
            ),
            "",
            *(f"{name:<60} {value:>12,.2f}" for name, value in self.figures.items()),
            "",
            f"{'memory, MiB':<32} {'before':>8} {'at most':>8}",
            *(f"{name:<32} {before:>8.1f} {most:>8.1f}" for name, (before, most) in self.memory_mib.items()),
            "",
            *(f"{'BREACH' if breach.is_judged else 'not judged'}: {breach.sentence}" for breach in self.breaches),
            f"again: {self.command}",
            self._render_verdict(),
        ]
        return "\n".join(lines)

    def _render_verdict(self) -> str:
        match self.exit_code:
            case 0:
                return "GOOD: every promise held."
            case 3:
                return (
                    "NOT JUDGED: something was late, but other work took so much of this machine's CPU that nobody can "
                    "tell why. Run it again on a quiet machine."
                )
            case _:
                judged = [breach.sentence for breach in self.breaches if breach.is_judged]
                return f"BAD: {'; '.join([*judged, *self.run.failed_checks])}"


def _round(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value
