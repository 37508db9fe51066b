"""The table of goals: what is asked, what was seen, how far it spread."""

from dataclasses import replace

from hitcounter_benchmark.backlog import Sample
from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.comparison import BARE, ONE_ID, OPEN_LOOP, PATH, TRACK, Round, compare
from hitcounter_benchmark.goals import tabulate_goals

from tests.unit.benchmark.test_comparison import WRONG, make_result


def tabulate(*rounds: Round) -> dict[str, list[str]]:
    head, *rows = tabulate_goals(compare(rounds), [compare([results]) for results in rounds])
    assert head == ["", "goal", "seen", "least to most", "met"]
    return {row[0]: list(row[1:]) for row in rows}


def make_held(hits_per_second: int, documents: int) -> Result:
    result = make_result(hits_per_second * 10)
    samples = [Sample(float(second), hits_per_second * second, 0) for second in range(11)]
    return replace(result, plan=replace(result.plan, max_backlog=1), samples=samples, documents=documents)


def test_the_median_meets_a_goal_and_the_spread_is_told_beside_it() -> None:
    rows = tabulate(*({BARE: make_result(1000), TRACK: make_result(hits)} for hits in (800, 950, 1200)))
    assert rows["Track alone, as a multiple of bare"] == ["≥ 0.90", "0.95", "0.80 to 1.20", "yes"]


def test_a_goal_that_is_missed_says_so_aloud() -> None:
    rows = tabulate({BARE: make_result(1000), TRACK: make_result(890)})
    assert rows["Track alone, as a multiple of bare"][-1] == "NO"


def test_one_id_is_held_against_many() -> None:
    rows = tabulate({BARE: make_result(1000), PATH: make_held(100, 900), ONE_ID: make_held(120, 108)})
    assert rows["one id, of many ids: hits/s"] == ["≥ 1.00", "1.20", "1.20 to 1.20", "yes"]
    assert rows["one id, of many ids: documents"][1:] == ["0.10", "0.10 to 0.10", "yes"]


def test_an_error_and_a_wrong_count_in_any_round_miss_their_goals() -> None:
    well = {BARE: make_result(1000), OPEN_LOOP: make_result(10, rate=1)}
    ill = {BARE: make_result(1000), OPEN_LOOP: make_result(10, rate=1, errors={"time-out": 1}, verdict=WRONG)}
    rows = tabulate(well, well, ill)
    assert rows["open loop: errors"] == ["≤ 0", "1", "0 to 1", "NO"]
    assert rows["loads with a wrong count"][-1] == "NO"


def test_what_was_not_measured_has_no_row() -> None:
    assert "batches of 1,000, sustained: hits/s" not in tabulate({BARE: make_result(1000)})
