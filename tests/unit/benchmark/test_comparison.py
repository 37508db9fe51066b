from dataclasses import replace

import pytest
from hitcounter_benchmark.backlog import Sample
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


def make_histogram(*durations_ms: float) -> Histogram:
    histogram = Histogram()
    for duration_ms in durations_ms:
        histogram.record(int(duration_ms * 1e6))
    return histogram


def make_result(
    hits: int,
    *,
    drain_seconds: float | None = None,
    rate: float | None = None,
    errors: dict[str, int] | None = None,
    verdict: Verdict | None = None,
) -> Result:
    latency = make_histogram(1.0)
    return Result(
        plan=Plan(target=Target("127.0.0.1", 1), ids=["x"], rate=rate),
        seconds=10.0,
        acknowledged_hits=hits,
        unknown_hits=0,
        errors=errors or {},
        latency=latency,
        client_stalls=Histogram(),
        client_cpu_share=0.5,
        neighbours_cores=0.1,
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


def test_a_load_that_the_backlog_held_back_went_at_the_rate_of_the_whole_path() -> None:
    samples = [Sample(float(second), accepted=second * 60, backlog=second * 10) for second in range(30)]
    free = replace(make_result(600, drain_seconds=0.0), samples=samples)
    held = replace(free, plan=replace(free.plan, max_backlog=100))
    bare, first, second = compare([{BARE: make_result(1000), "free": free, "held": held}])
    assert (bare.sustained, first.sustained) == (None, None)
    assert second.sustained == pytest.approx(50.0)
    assert second.sustained_ratio == pytest.approx(0.5)
    assert second.highest_backlog == 290


def test_merged_documents_and_reads_have_figures_of_their_own() -> None:
    measured = replace(make_result(1000), documents=200, reads=make_histogram(10.0))
    bare, line = compare([{BARE: make_result(1000), "hot": measured}])
    assert (bare.documents_per_hit, line.documents_per_hit) == (None, 0.2)
    assert bare.read_p90_ms is None
    assert line.read_p90_ms == pytest.approx(10.0, rel=0.01)


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
    titles = ("Ratios", "Absolute", "Durations", "CPU seconds", "Peak memory", "Goals")
    assert [shown.index(title) for title in titles] == sorted(shown.index(title) for title in titles)
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
