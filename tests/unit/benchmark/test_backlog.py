import pytest
from hitcounter_benchmark.backlog import Sample, measure_flow, thin


def make_samples(*backlogs: int, accepted_each: int = 100) -> list[Sample]:
    """One a second, with as many hits accepted in each second."""
    return [Sample(float(second), second * accepted_each, backlog) for second, backlog in enumerate(backlogs)]


def test_what_leaves_the_queue_is_what_came_less_what_gathered() -> None:
    flow = measure_flow(make_samples(*range(0, 110, 10)))
    assert flow is not None
    assert (flow.accepted_per_second, flow.settled_per_second) == (100, 90)
    assert (flow.seconds, flow.highest_backlog) == (6.0, 100)


def test_the_filling_of_the_queue_at_the_start_is_left_out() -> None:
    flow = measure_flow(make_samples(0, 100, 200, *[200] * 5))
    assert flow is not None
    assert flow.settled_per_second == 100


def test_five_seconds_of_a_long_load_are_left_out_at_most() -> None:
    flow = measure_flow(make_samples(*[0] * 31))
    assert flow is not None
    assert flow.seconds == 25.0


@pytest.mark.parametrize("samples", [[], make_samples(0)])
def test_a_load_that_was_hardly_looked_at_has_no_flow(samples: list[Sample]) -> None:
    assert measure_flow(samples) is None


def test_a_record_keeps_about_a_sample_a_second() -> None:
    samples = [Sample(number / 20, number, 0) for number in range(60)]
    assert [sample.seconds for sample in thin(samples)] == [0.0, 1.0, 2.0]
