from hitcounter_benchmark.tables import render_sections, show

TABLE = [["", "rate"], ["bare uvicorn", "25,000"], ["path", "9"]]


def test_names_stand_to_the_left_and_figures_to_the_right() -> None:
    assert render_sections([("Rates", TABLE)]).splitlines() == [
        "Rates",
        "                rate",
        "bare uvicorn  25,000",
        "path               9",
    ]


def test_what_is_not_known_is_left_blank() -> None:
    assert (show(None, ",.0f"), show(0.0, ".1f"), show(12345.6, ",.0f")) == ("", "0.0", "12,346")
