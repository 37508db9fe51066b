import pytest
from hitcounter_benchmark.tally import Expected
from hitcounter_benchmark.verdict import judge, not_verified


def test_counted_equals_acknowledged() -> None:
    expected = {"a": Expected(123_000, 0), "b": Expected(456, 0)}
    verdict = judge(expected, before={"a": 0, "b": 0}, after={"a": 123_000, "b": 456})
    assert verdict.is_right
    assert verdict.sentence == "counted 123,456 = acknowledged 123,456"


def test_hits_that_an_id_had_before_do_not_count() -> None:
    assert judge({"a": Expected(5, 0)}, before={"a": 100}, after={"a": 105}).is_right


@pytest.mark.parametrize("counted", [5, 6, 7])
def test_unknown_hits_may_be_counted_or_not(counted: int) -> None:
    verdict = judge({"a": Expected(5, 2)}, before={"a": 0}, after={"a": counted})
    assert verdict.is_right
    assert verdict.sentence == f"counted {counted} = acknowledged 5 + {counted - 5} of 2 unknown"


@pytest.mark.parametrize("counted", [4, 8])
def test_more_or_fewer_than_that_is_wrong(counted: int) -> None:
    verdict = judge({"a": Expected(5, 2)}, before={"a": 0}, after={"a": counted})
    assert not verdict.is_right
    assert verdict.sentence.startswith(f"WRONG: counted {counted}, acknowledged 5; wrong for 1 ids: 'a'")


def test_a_right_sum_over_wrong_ids_is_wrong() -> None:
    expected = {"a": Expected(5, 0), "b": Expected(5, 0)}
    verdict = judge(expected, before={"a": 0, "b": 0}, after={"a": 4, "b": 6})
    assert not verdict.is_right
    assert len(verdict.wrong) == 2


def test_only_a_few_of_many_wrong_ids_are_named() -> None:
    expected = {f"x-{number}": Expected(1, 0) for number in range(1000)}
    verdict = judge(expected, before=dict.fromkeys(expected, 0), after=dict.fromkeys(expected, 0))
    assert verdict.sentence.endswith("; and 997 more")


def test_nothing_acknowledged_shows_nothing() -> None:
    assert not judge({"a": Expected(0, 0)}, before={"a": 0}, after={"a": 0}).is_right


def test_refused_hits_that_were_counted_are_wrong() -> None:
    verdict = judge({"a": Expected(0, 0)}, before={"a": 0}, after={"a": 1})
    assert verdict.sentence.startswith("WRONG")


def test_counts_that_could_not_be_read_are_no_success() -> None:
    verdict = not_verified("the counts cover nothing")
    assert (verdict.is_right, verdict.sentence) == (False, "NOT VERIFIED: the counts cover nothing")
