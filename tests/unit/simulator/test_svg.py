import xml.etree.ElementTree as ET

import pytest

from tools.simulator.svg import build_axis, draw_lines, format_value

SVG = "{http://www.w3.org/2000/svg}"


def parse(drawing: str) -> ET.Element:
    return ET.fromstring(drawing)  # noqa: S314 -- our own


def find_texts(drawing: str) -> list[str]:
    return [element.text or "" for element in parse(drawing).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (27.0, [0, 10, 20, 30]), (62_000.0, [0, 20_000, 40_000, 60_000, 80_000])],
)
def test_axis_goes_from_zero_in_round_steps_to_the_highest_value(highest: float, ticks: list[float]) -> None:
    assert build_axis({"": [highest / 2, highest]}, is_log=False).ticks == pytest.approx(ticks)


def test_logarithmic_axis_goes_in_powers_of_ten() -> None:
    assert build_axis({"": [0.3, 250.0, None]}, is_log=True).ticks == pytest.approx([0.1, 1, 10, 100, 1000])


@pytest.mark.parametrize("is_log", [True, False])
def test_an_axis_without_values_is_one_all_the_same(is_log: bool) -> None:
    axis = build_axis({"": [None]}, is_log=is_log)
    assert axis.place(axis.ticks[0]) > axis.place(axis.ticks[-1])


def test_title_unit_labels_values_and_names_are_written() -> None:
    texts = find_texts(draw_lines("a < b", ["one"], {"first & last": [1000.0]}, unit="hits/s"))
    assert {"a < b", "hits/s", "one", "1,000", "first & last"} <= set(texts)


def test_a_line_has_a_gap_where_a_value_is_missing() -> None:
    whole = draw_lines("", ["a", "b", "c", "d"], {"": [1.0, 2.0, 3.0, 4.0]}, unit="")
    broken = draw_lines("", ["a", "b", "c", "d"], {"": [1.0, None, 3.0, 4.0]}, unit="")
    count = {name: len(list(parse(drawing).iter(f"{SVG}circle"))) for name, drawing in (("w", whole), ("b", broken))}
    assert count == {"w": 4, "b": 3}
    assert whole.count("stroke-width") - broken.count("stroke-width") == 2


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.525, "0.525"), (99.96, "100"), (45_425.4, "45,425")])
def test_values_have_three_digits_or_their_thousands_apart(value: float, text: str) -> None:
    assert format_value(value) == text
