from dataclasses import replace

import pytest
from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.comparison import BARE, Round, compare
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.plan import Plan
from hitcounter_benchmark.processes import Usage
from hitcounter_benchmark.suite_report import build_suite_record, render_suite
from hitcounter_benchmark.target import Target
from hitcounter_benchmark.verdict import Verdict

RIGHT = Verdict(True, "counted 1 = acknowledged 1", 1)
WRONG = Verdict(False, "WRONG: counted 2, acknowledged 1", 2)


def make_result(
    hits: int,
    *,
    drain_seconds: float | None = None,
    rate: float | None = None,
    errors: dict[str, int] | None = None,
    verdict: Verdict | None = None,
) -> Result:
    latency = Histogram()
    latency.record(1_000_000)
    return Result(
        plan=Plan(target=Target("127.0.0.1", 1), ids=["x"], rate=rate),
        seconds=10.0,
        acknowledged_hits=hits,
        unknown_hits=0,
        errors=errors or {},
        latency=latency,
        client_stalls=Histogram(),
        client_cpu_share=0.5,
        drain_seconds=drain_seconds,
        freshness=None,
        verdict=verdict,
        usage={"api": Usage(cpu_seconds=hits / 100_000, peak_memory_mb=90)},
    )


def make_round(bare: int, path: int, drain_seconds: float | None = 0.0) -> Round:
    return {BARE: make_result(bare), "path": make_result(path, drain_seconds=drain_seconds, verdict=RIGHT)}


def test_ratio_is_taken_within_a_round_before_the_median() -> None:
    rounds = [make_round(1000, 500), make_round(100, 60), make_round(10_000, 7000)]
    bare, path = compare(rounds)
    assert bare.accepted_ratio == 1.0
    assert path.accepted_ratio == pytest.approx(0.6)
    assert path.accepted == 50.0


def test_countable_rate_pays_for_the_time_until_the_queue_is_empty() -> None:
    _, path = compare([make_round(1000, 1000, drain_seconds=10.0)])
    assert (path.accepted, path.countable) == (100.0, 50.0)
    assert path.countable_ratio == pytest.approx(0.5)


def test_a_queue_that_never_emptied_has_no_countable_rate() -> None:
    _, path = compare([make_round(1000, 1000, drain_seconds=None)])
    assert (path.countable, path.countable_ratio) == (None, None)


def test_an_open_loop_has_no_ratio_since_it_chose_its_rate() -> None:
    _, visitors = compare([{BARE: make_result(1000), "open": make_result(10, rate=1)}])
    assert visitors.accepted_ratio is None


def test_processor_time_is_told_per_million_hits() -> None:
    bare, _ = compare([make_round(1000, 500)])
    assert bare.cpu_seconds_per_million == {"api": pytest.approx(10.0)}


def test_processor_time_of_the_answering_process_is_compared_with_the_bare_one() -> None:
    rounds = [{BARE: make_result(1000), "path": replace(make_result(500), usage={"api": Usage(0.02, 90)})}]
    _, path = compare(rounds)
    assert path.api_cpu_ratio == pytest.approx(4.0)


def test_ratios_are_told_first() -> None:
    rounds = [make_round(1000, 500)]
    shown = render_suite(compare(rounds), rounds)
    assert shown.index("Ratios") < shown.index("Absolute") < shown.index("CPU seconds") < shown.index("Peak memory")
    assert "All counts right: counted 1 = acknowledged 500" in shown


def test_a_wrong_count_and_errors_are_told_last_where_they_are_seen() -> None:
    rounds = [{BARE: make_result(1000), "path": make_result(1, errors={"time-out": 3}, verdict=WRONG)}]
    last = render_suite(compare(rounds), rounds).splitlines()[-3:]
    assert last == ["NOT RIGHT:", "path: WRONG: counted 2, acknowledged 1", "path: {'time-out': 3}"]


def test_the_record_holds_medians_and_every_round() -> None:
    rounds = [make_round(1000, 500), make_round(1000, 600)]
    record = build_suite_record(compare(rounds), rounds)
    assert [line["name"] for line in as_list(record["medians"])] == [BARE, "path"]
    assert len(as_list(record["rounds"])) == 2


def as_list(part: object) -> list[dict[str, object]]:
    assert isinstance(part, list)
    return part
