from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from hitcounter.logs import RepeatFilter, bind_traceparent, configure_logging, get_logger
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


# ── what goes on and on ─────────────────────────────────────────────────────────────────────────────────────────────


class Lines(logging.Handler):
    """Keeps the records that get through its filter, and those let through at the end of a period apart from them."""

    def __init__(self, period_seconds: float) -> None:
        super().__init__()
        self.at_once: list[logging.LogRecord] = []
        self.late: asyncio.Queue[logging.LogRecord] = asyncio.Queue()
        self.addFilter(RepeatFilter(self, period_seconds))

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "repeats"):
            self.late.put_nowait(record)
        else:
            self.at_once.append(record)


def log_to(lines: Lines, message: object, level: int = logging.ERROR) -> None:
    lines.handle(logging.LogRecord("some.part", level, "file.py", 1, message, (), None))


async def test_burst_of_one_error_is_a_line_and_then_one_each_period_with_its_number() -> None:
    lines = Lines(period_seconds=0.05)
    for entry in range(1000):
        log_to(lines, {"event": "dead letter", "entry": entry})
    assert [record.msg for record in lines.at_once] == [{"event": "dead letter", "entry": 0}]
    late: Any = await lines.late.get()
    assert (late.repeats, late.msg) == (999, {"event": "dead letter", "entry": 999})
    log_to(lines, {"event": "dead letter", "entry": 1000})
    late = await lines.late.get()
    assert (late.repeats, late.msg) == (1, {"event": "dead letter", "entry": 1000})
    assert len(lines.at_once) == 1


async def test_errors_of_different_kinds_do_not_hide_each_other() -> None:
    lines = Lines(period_seconds=60)
    for message in ({"event": "a"}, {"event": "b"}, "c"):
        log_to(lines, message)
        log_to(lines, message, logging.WARNING)
        log_to(lines, message)
    assert [(record.msg, record.levelname) for record in lines.at_once] == [
        (message, level) for message in ({"event": "a"}, {"event": "b"}, "c") for level in ("ERROR", "WARNING")
    ]


async def test_dict_without_an_event_that_a_library_logs_is_a_line_like_any_other() -> None:
    lines = Lines(period_seconds=60)
    log_to(lines, {"status": 500})
    log_to(lines, {"status": 500})
    assert [record.msg for record in lines.at_once] == [{"status": 500}]


async def test_an_error_that_comes_back_after_a_quiet_period_is_said_at_once() -> None:
    lines = Lines(period_seconds=0.02)
    log_to(lines, {"event": "a"})
    log_to(lines, {"event": "b"})
    log_to(lines, {"event": "b"})
    await lines.late.get()  # the period without further lines of the other has ended, too
    log_to(lines, {"event": "a"})
    assert [record.msg["event"] for record in lines.at_once if isinstance(record.msg, dict)] == ["a", "b", "a"]


async def test_what_is_no_trouble_is_never_held_back() -> None:
    lines = Lines(period_seconds=60)
    for _ in range(3):
        log_to(lines, {"event": "took over entries"}, logging.INFO)
    assert len(lines.at_once) == 3


async def test_line_at_the_end_of_a_period_shows_the_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter.logs._REPEAT_SECONDS", 0.02)
    configure_logging(LogSettings(format="json"), "api")
    shown = asyncio.Event()
    monkeypatch.setattr(logging.root.handlers[0], "flush", shown.set)
    for _ in range(3):
        get_logger().error("no answer")
    shown.clear()
    await shown.wait()
    lines = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line.get("repeats")) for line in lines] == [("no answer", None), ("no answer", 2)]


# ── whose line it is ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_lines_of_a_request_carry_its_traceparent_and_no_others_do(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"), "api")

    async def serve(traceparent: str) -> None:
        bind_traceparent(traceparent)
        await asyncio.sleep(0)
        get_logger().info("ours", of=traceparent)
        logging.getLogger("library").error("theirs of %s", traceparent)

    await asyncio.gather(serve("00-a"), serve("00-b"))
    get_logger().info("nobody's", of=None)
    lines = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("traceparent") for line in lines if "of" in line] == [line["of"] for line in lines if "of" in line]
    assert {line["event"]: line["traceparent"] for line in lines if "of" not in line} == {"theirs of 00-a": "00-a"}
