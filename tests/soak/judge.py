"""Whether anybody waited too long, from what was seen once a second. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.chaos.conductor import Incident
from tests.soak.plan import AS_OF_LIMIT_SECONDS, LIMITS, RECOVERY_SECONDS
from tests.soak.watch import Moment

NORMAL_SECONDS: Final = 10.0
"""How old the oldest hit may be, and how far the as-of behind, when all is well: about one second of it is normal."""
GROWTH_LIMIT_BYTES: Final = 128 * 1024 * 1024
"""By how much a process may grow beyond its size before the first fault."""
_CALM_TODAY_LIMIT_SECONDS: Final = 30.0
_FOREIGN_LIMIT: Final = 0.25
"""Of the machine's CPU, beyond which the work of others may be the reason for waiting."""
_IDLE_LIMIT: Final = 0.10
"""Where so much of it is idle, it is not."""
_LATE_LIMIT_SECONDS: Final = 1.0
_LOOKED_BACK_SECONDS: Final = 60.0
_CALM_SECONDS: Final = 10.0
_MIB: Final = 1024 * 1024

Check = str
AS_OF: Final[Check] = f"the as-of is never more than {AS_OF_LIMIT_SECONDS:g} s behind, but for the fault it waits for"
TODAY: Final[Check] = "hits of today are countable in time, whatever happens to yesterday"
RECOVERY: Final[Check] = f"the oldest hit is young again within {RECOVERY_SECONDS:g} s of each fault's end"
MEMORY: Final[Check] = f"no process grows by more than {GROWTH_LIMIT_BYTES // _MIB} MiB"


@dataclass(frozen=True, slots=True)
class Breach:
    """A wait that was too long."""

    check: Check
    at_seconds: float
    """When it was first too long."""
    sentence: str
    is_judged: bool = True
    """False where the machine was too busy with other things to tell whose fault it is."""


def judge(incidents: Sequence[Incident], moments: Sequence[Moment]) -> list[Breach]:
    """Return what was too late or too large, in order."""
    breaches = [
        *_judge_as_of(incidents, moments),
        *_judge_today(incidents, moments),
        *_judge_recovery(incidents, moments),
        *_judge_memory(moments),
    ]
    return sorted(breaches, key=lambda breach: breach.at_seconds)


def is_too_busy(moments: Sequence[Moment], at_seconds: float) -> bool:
    """Tell whether other work on the machine may explain what was seen at that time."""
    recent = [moment for moment in moments if at_seconds - _LOOKED_BACK_SECONDS <= moment.at_seconds <= at_seconds]
    if not recent:
        return False
    foreign = sum(moment.foreign_share for moment in recent) / len(recent)
    idle = sum(moment.idle_share for moment in recent) / len(recent)
    late = sum(moment.late_seconds > _LATE_LIMIT_SECONDS for moment in recent) / len(recent)
    return (foreign > _FOREIGN_LIMIT and idle < _IDLE_LIMIT) or late > 0.1


def format_time(seconds: float) -> str:
    """Return minutes and seconds since the schedule began."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02}"


# ── the checks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _judge_as_of(incidents: Sequence[Incident], moments: Sequence[Moment]) -> Iterator[Breach]:
    def is_late(moment: Moment) -> bool:
        return moment.as_of_lag_seconds > AS_OF_LIMIT_SECONDS and not _is_waited_for(incidents, moment.at_seconds)

    for late in _find_stretches(moments, is_late):
        worst = max(moment.as_of_lag_seconds for moment in late)
        yield _breach(
            AS_OF,
            moments,
            late,
            f"the as-of was up to {worst:.0f} s behind (limit {AS_OF_LIMIT_SECONDS:g} s)",
            incidents,
        )


def _judge_today(incidents: Sequence[Incident], moments: Sequence[Moment]) -> Iterator[Breach]:
    def is_late(moment: Moment) -> bool:
        return moment.today_lag_seconds > _find_today_limit(incidents, moment.at_seconds)

    for late in _find_stretches(moments, is_late):
        worst = max(moment.today_lag_seconds for moment in late)
        limit = _find_today_limit(incidents, late[0].at_seconds)
        sentence = f"hits of today waited up to {worst:.0f} s to be countable (limit {limit:g} s)"
        yield _breach(TODAY, moments, late, sentence, incidents)


def _judge_recovery(incidents: Sequence[Incident], moments: Sequence[Moment]) -> Iterator[Breach]:
    for incident in incidents:
        if any(_waits(other) and _overlaps(other, incident) for other in incidents if other is not incident):
            continue  # the other one is judged
        late_at = incident.undone_seconds + RECOVERY_SECONDS
        late = [m for m in find_aftermath(incident, incidents, moments) if m.at_seconds > late_at and _is_unusual(m)]
        if late:
            sentence = (
                f"at {format_time(late_at)}, {RECOVERY_SECONDS:g} s after the end of '{incident.fault.kind}', "
                f"the oldest hit was {late[0].oldest_age_seconds:.0f} s old and the as-of "
                f"{late[0].as_of_lag_seconds:.0f} s behind (normal: up to {NORMAL_SECONDS:g} s)"
            )
            yield Breach(RECOVERY, late_at, sentence, not is_too_busy(moments, late[0].at_seconds))


def _judge_memory(moments: Sequence[Moment]) -> Iterator[Breach]:
    for name, level in find_levels(moments).items():
        grown = [m for m in moments if m.resident_bytes.get(name, 0) > level + GROWTH_LIMIT_BYTES]
        if grown:
            worst = max(moment.resident_bytes[name] for moment in grown)
            sentence = f"{name} grew from {level / _MIB:.0f} to {worst / _MIB:.0f} MiB"
            yield Breach(MEMORY, grown[0].at_seconds, f"at {format_time(grown[0].at_seconds)} {sentence}")


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def find_calm(moments: Sequence[Moment]) -> list[Moment]:
    """Return what was seen just before the first fault."""
    return [moment for moment in moments if -_CALM_SECONDS <= moment.at_seconds < 0] or list(moments[:1])


def find_levels(moments: Sequence[Moment]) -> dict[str, float]:
    """Return how large each process was before the first fault."""
    quiet = find_calm(moments)
    names = {name for moment in quiet for name in moment.resident_bytes}
    return {
        name: median(moment.resident_bytes[name] for moment in quiet if name in moment.resident_bytes)
        for name in sorted(names)
    }


def find_aftermath(incident: Incident, incidents: Sequence[Incident], moments: Sequence[Moment]) -> list[Moment]:
    """Return what was seen from the end of a fault until the next one began."""
    end = incident.undone_seconds
    until = min((i.began_seconds for i in incidents if i.began_seconds >= end), default=float("inf"))
    return [moment for moment in moments if end <= moment.at_seconds < until]


def find_recovery_seconds(incident: Incident, incidents: Sequence[Incident], moments: Sequence[Moment]) -> float:
    """Return for how long after a fault anything was unusual; inf if it still was when the next one began."""
    aftermath = find_aftermath(incident, incidents, moments)
    unusual = [moment.at_seconds for moment in aftermath if _is_unusual(moment)]
    if not unusual:
        return 0.0
    return float("inf") if unusual[-1] == aftermath[-1].at_seconds else unusual[-1] - incident.undone_seconds


def _is_unusual(moment: Moment) -> bool:
    return max(moment.oldest_age_seconds, moment.as_of_lag_seconds) > NORMAL_SECONDS


def _overlaps(other: Incident, incident: Incident) -> bool:
    """Whether a fault was there while another one had its time to recover."""
    end = incident.undone_seconds
    return other.began_seconds <= end + RECOVERY_SECONDS and other.undone_seconds > end


def _is_waited_for(incidents: Sequence[Incident], at_seconds: float) -> bool:
    return any(
        _waits(incident) and incident.began_seconds <= at_seconds <= incident.undone_seconds + RECOVERY_SECONDS
        for incident in incidents
    )


def _waits(incident: Incident) -> bool:
    return LIMITS[incident.fault.kind].is_waited_for


def _find_today_limit(incidents: Sequence[Incident], at_seconds: float) -> float:
    return max(
        (
            LIMITS[incident.fault.kind].today_seconds
            for incident in incidents
            if incident.began_seconds <= at_seconds <= incident.undone_seconds + RECOVERY_SECONDS
        ),
        default=_CALM_TODAY_LIMIT_SECONDS,
    )


def _find_stretches(moments: Sequence[Moment], is_late: Callable[[Moment], bool]) -> list[list[Moment]]:
    stretches: list[list[Moment]] = []
    was_late = False
    for moment in moments:
        now_late = is_late(moment)
        if now_late and not was_late:
            stretches.append([])
        if now_late:
            stretches[-1].append(moment)
        was_late = now_late
    return stretches


def _breach(
    check: Check, moments: Sequence[Moment], late: Sequence[Moment], sentence: str, incidents: Sequence[Incident]
) -> Breach:
    at, until = late[0].at_seconds, late[-1].at_seconds
    before = [incident for incident in incidents if incident.began_seconds <= at]
    kind = before[-1].fault.kind if before else "nothing yet"
    whole = f"from {format_time(at)} to {format_time(until)} {sentence}; the last fault was '{kind}'"
    return Breach(check, at, whole, not is_too_busy(moments, at))
