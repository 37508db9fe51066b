"""When hits are to be sent, in nanoseconds since the start of the load. Pure.

An open loop plans the times in advance and keeps them, no matter how slow the responses are, as visitors do. Latency is
measured from the planned time. So if the server stalls for a second, every hit planned for that second counts, and not
only those that could be sent (this avoids coordinated omission).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

SPIKE_FACTOR: Final = 5
"""A spike is this many times the usual rate, in the middle fifth of the run."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a profile with one rate."""

    seconds: float
    per_second: float

    @property
    def expected(self) -> float:
        """How many sends fall into this stretch."""
        return self.seconds * self.per_second


Profile = Sequence[Stretch]


def steady(rate: float, seconds: float) -> Profile:
    """The same rate all along."""
    return (Stretch(seconds, rate),)


def spike(rate: float, seconds: float) -> Profile:
    """The rate, and `SPIKE_FACTOR` times as much in the middle fifth."""
    before = Stretch(0.4 * seconds, rate)
    return (before, Stretch(0.2 * seconds, SPIKE_FACTOR * rate), before)


PROFILES: Final = {"steady": steady, "spike": spike}


def intended_times_ns(profile: Profile) -> Iterator[int]:
    """Yield the intended time of every send, in order, evenly spaced for the rate of the moment."""
    before_seconds = 0.0
    before_sends = 0.0
    number = 0
    for stretch in profile:
        after_sends = before_sends + stretch.expected
        while number < after_sends - 1e-6:  # a hair of tolerance: a share of the seconds is not exact in binary
            yield int((before_seconds + max(number - before_sends, 0.0) / stretch.per_second) * 1e9)
            number += 1
        before_seconds += stretch.seconds
        before_sends = after_sends


class Pace(Protocol):
    """Says when the next request may leave."""

    def take(self, now_ns: int) -> int | None:
        """Claim the next send if it is due, and return the time it was meant for; None when none is due."""

    def is_over(self, now_ns: int) -> bool:
        """Whether nothing will ever be due again."""

    def count_unsent(self) -> int:
        """Return how many sends were meant to be, but never claimed; the pace is used up then."""


class ClosedLoop:
    """As fast as the answers come: a send is always due, until the time or the number of requests is used up."""

    def __init__(self, *, seconds: float, requests: int | None = None) -> None:
        self._end_ns = int(seconds * 1e9)
        self._remaining = requests

    def take(self, now_ns: int) -> int | None:
        """Claim a send for right now."""
        if self.is_over(now_ns):
            return None
        if self._remaining is not None:
            self._remaining -= 1
        return now_ns

    def is_over(self, now_ns: int) -> bool:
        """Whether the time or the requests are used up."""
        return now_ns >= self._end_ns or self._remaining == 0

    def count_unsent(self) -> int:
        """Return what is left of the requests when the time was used up first."""
        return self._remaining or 0


class OpenLoop:
    """Keeps to the intended times: whatever is due and unsent waits here, and its waiting counts as latency.

    Args:
        intended_ns: When to send, in order.
        give_up_seconds: When to send no more, however much is still due: a server that is away must not hold us for
            ever.
    """

    def __init__(self, intended_ns: Iterable[int], *, give_up_seconds: float) -> None:
        self._intended_ns = iter(intended_ns)
        self._next_ns = next(self._intended_ns, None)
        self._give_up_ns = int(give_up_seconds * 1e9)

    def take(self, now_ns: int) -> int | None:
        """Claim the oldest send that is due."""
        due_ns = self._next_ns
        if due_ns is None or due_ns > now_ns or now_ns >= self._give_up_ns:
            return None
        self._next_ns = next(self._intended_ns, None)
        return due_ns

    def is_over(self, now_ns: int) -> bool:
        """Whether every intended send was claimed, or it is too late for the rest."""
        return self._next_ns is None or now_ns >= self._give_up_ns

    def count_unsent(self) -> int:
        """Return how many intended sends were never claimed."""
        if self._next_ns is None:
            return 0
        self._next_ns = None
        return 1 + sum(1 for _ in self._intended_ns)
