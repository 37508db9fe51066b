from __future__ import annotations

import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog
from hitcounter.logs import configure_logging, get_logger
from hitcounter.settings import LogSettings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level
    structlog.reset_defaults()


def test_line_in_a_cluster_is_one_json_object_with_time_level_service_and_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(format="json"), "indexer")
    get_logger().warning("waiting", server="redis", reason="does not answer")
    line = orjson.loads(capsys.readouterr().err)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "event": "waiting",
        "level": "warning",
        "service": "indexer",
        "server": "redis",
        "reason": "does not answer",
    }


def test_line_that_is_no_terminals_is_json_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="auto"), "api")
    get_logger().info("started")
    assert orjson.loads(capsys.readouterr().err)["event"] == "started"


def test_libraries_speak_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"), "api")
    logging.getLogger("some.library").warning("careful: %s", "hot")
    line = orjson.loads(capsys.readouterr().err)
    assert (line["event"], line["service"]) == ("careful: hot", "api")


def test_failed_try_that_we_report_ourselves_is_not_reported_again_by_its_library(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(format="json"), "api")
    logging.getLogger("elastic_transport.transport").warning("retrying")
    assert capsys.readouterr().err == ""


def test_exception_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"), "api")
    try:
        raise ValueError("that is why")
    except ValueError:
        get_logger().exception("a turn failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: that is why" in orjson.loads(line)["exception"]


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="text"), "api")
    get_logger().info("started", port=8001)
    line = capsys.readouterr().err
    assert "started" in line
    assert "port=8001" in line


def test_less_than_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="error", format="json"), "api")
    get_logger().warning("waiting")
    assert capsys.readouterr().err == ""
