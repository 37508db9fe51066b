import pytest
from hitcounter_benchmark.mix import build_mix, name_ids
from hitcounter_benchmark.tally import Expected, Outcome, Tally, classify
from hitcounter_benchmark.target import Target

TARGET = Target("127.0.0.1", 8001)


def make_tally(ids: int = 3, batch: int | None = None) -> Tally:
    return Tally(build_mix(TARGET, name_ids("x", ids), skew="uniform", batch=batch, seed=1))


@pytest.mark.parametrize(
    ("status", "body", "outcome", "kind"),
    [
        (204, b"", Outcome.ACKNOWLEDGED, "204"),
        (400, b'{"title": "not JSON"}', Outcome.REFUSED, "400"),
        (422, b"", Outcome.REFUSED, "422"),
        (503, b'{"outcome": "refused"}', Outcome.REFUSED, "503 refused"),
        (503, b'{"outcome": "unknown"}', Outcome.UNKNOWN, "503 unknown"),
        (503, b"not even JSON", Outcome.UNKNOWN, "503"),
        (503, b'["refused"]', Outcome.UNKNOWN, "503"),
        (500, b"", Outcome.UNKNOWN, "500"),
    ],
)
def test_outcome_of_an_answer(status: int, body: bytes, outcome: Outcome, kind: str) -> None:
    assert classify(status, body) == (outcome, kind)


def test_every_id_is_expected_even_if_it_was_never_sent() -> None:
    tally = make_tally()
    tally.acknowledged[1] += 4
    tally.miss(1, Outcome.UNKNOWN, "time-out")
    tally.miss(2, Outcome.REFUSED, "422")
    assert tally.by_id() == {"x-0": Expected(0, 0), "x-1": Expected(4, 1), "x-2": Expected(0, 0)}
    assert tally.errors == {"time-out": 1, "422": 1}
    assert (tally.acknowledged_hits, tally.unknown_hits) == (4, 1)


def test_a_batch_counts_with_all_of_its_hits() -> None:
    tally = make_tally(ids=2, batch=100)
    tally.acknowledged[0] += 1
    tally.acknowledged[5] += 1
    tally.miss(7, Outcome.UNKNOWN, "connection cut")
    expected = tally.by_id()
    assert sum(expectation.acknowledged for expectation in expected.values()) == tally.acknowledged_hits == 200
    assert sum(expectation.unknown for expectation in expected.values()) == tally.unknown_hits == 100
