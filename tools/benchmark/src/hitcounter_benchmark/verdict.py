"""Decides whether the counts match what was acknowledged, and explains the result. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hitcounter_benchmark.tally import Expected

_NAMED: Final = 3
"""Wrong ids that the sentence names; the rest is a number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a verification."""

    is_right: bool
    sentence: str
    counted: int | None = None
    wrong: tuple[str, ...] = ()
    """A clause for each id whose count is wrong."""


def judge(expected: Mapping[str, Expected], before: Mapping[str, int], after: Mapping[str, int]) -> Verdict:
    """Hold what was counted during the load against what was acknowledged, id by id.

    Right is: acknowledged <= counted <= acknowledged + unknown, for each id. (An id that had hits before may lose
    those that turned three days old meanwhile; use a new id rather than that excuse.)
    """
    counted = {hit_id: after[hit_id] - before[hit_id] for hit_id in expected}
    wrong = tuple(
        _describe(hit_id, counted[hit_id], expectation)
        for hit_id, expectation in expected.items()
        if not expectation.acknowledged <= counted[hit_id] <= expectation.acknowledged + expectation.unknown
    )
    total = sum(counted.values())
    acknowledged = sum(expectation.acknowledged for expectation in expected.values())
    unknown = sum(expectation.unknown for expectation in expected.values())
    if wrong:
        return Verdict(False, _complain(total, acknowledged, wrong), total, wrong)
    if not acknowledged + unknown:
        return not_verified("no hit was acknowledged, so there is nothing to compare")
    return Verdict(True, _confirm(total, acknowledged, unknown), total)


def not_verified(reason: str) -> Verdict:
    """Return the verdict on counts that could not be read: as bad as wrong ones, since nothing was shown."""
    return Verdict(False, f"NOT VERIFIED: {reason}")


def _describe(hit_id: str, counted: int, expectation: Expected) -> str:
    doubt = f" + up to {expectation.unknown:,} unknown" if expectation.unknown else ""
    return f"{hit_id!r}: counted {counted:,}, acknowledged {expectation.acknowledged:,}{doubt}"


def _confirm(counted: int, acknowledged: int, unknown: int) -> str:
    if not unknown:
        return f"counted {counted:,} = acknowledged {acknowledged:,}"
    return f"counted {counted:,} = acknowledged {acknowledged:,} + {counted - acknowledged:,} of {unknown:,} unknown"


def _complain(counted: int, acknowledged: int, wrong: tuple[str, ...]) -> str:
    named = "; ".join(wrong[:_NAMED])
    more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
    return f"WRONG: counted {counted:,}, acknowledged {acknowledged:,}; wrong for {len(wrong):,} ids: {named}{more}"
