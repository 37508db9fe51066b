"""POST /analytics over HTTP: what is taken, and every row of the table of bad input."""

from __future__ import annotations

import http.client
import itertools
import time
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import pytest
from hitcounter.errors import Outcome, StreamUnavailable
from hitcounter_api.app import Api
from hitcounter_api.times import format_time

from tests.contract.api.server import HOST, Reply, Server
from tests.unit.api.fakes import FULL, NOW_MS, REFUSED, UNKNOWN

DAY_MS = 86_400_000
MINUTE_MS = 60_000
UUID7 = "019ab4e1-c800-7cc3-9c1b-3f1d2a6b7c8d"
UUID7_MS = int("019ab4e1c800", 16)


def fields_of(server: Server) -> list[tuple[str, int, int, str]]:
    """Return what is in the stream: id, time, weight, key."""
    return [
        hit
        for batch in server.stream.accepted
        for hit in zip(
            batch.ids,
            batch.times_ms,
            batch.weights or itertools.repeat(1, len(batch)),
            batch.keys or itertools.repeat("", len(batch)),
            strict=True,
        )
    ]


# ── good hits ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hit_is_answered_with_204_and_a_date_and_nothing_else(server: Server) -> None:
    reply = server.track(b'{"id":"a"}')
    date = parsedate_to_datetime(reply.headers["date"])
    assert reply == Reply(204, {"date": reply.headers["date"]}, b"")
    assert abs(date.timestamp() - time.time()) < 5, "Date is the real time (RFC 9110, 6.6.1)"
    assert fields_of(server) == [("a", NOW_MS, 1, "")]


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "nonsense"]
)
def test_a_body_is_json_whatever_its_content_type(server: Server, content_type: str) -> None:
    assert server.track(b'{"id":"a"}', {"Content-Type": content_type}).status == 204


@pytest.mark.parametrize(
    "id_",
    ["/", "a/b/c", "a/..", "%2F", " ", "\0", "\n", "batch", "é", "🙂" * 128, "x" * 512],
    ids=["slash", "slashes", "dots", "percent", "space", "nul", "line feed", "batch", "accent", "128 emoji", "512"],
)
def test_ids_of_all_kinds_are_taken_as_they_are(server: Server, id_: str) -> None:
    assert server.track(orjson.dumps({"id": id_})).status == 204
    assert [hit[0] for hit in fields_of(server)] == [id_]


def test_all_fields_arrive_in_the_stream(server: Server) -> None:
    time_ms = NOW_MS - DAY_MS
    body = {"id": "a", "timestamp": format_time(time_ms), "weight": 1_000_000, "key": "k"}
    assert server.track(orjson.dumps(body)).status == 204
    assert fields_of(server) == [("a", time_ms, 1_000_000, "k")]


def test_the_last_of_two_equal_names_counts(server: Server) -> None:
    assert server.track(b'{"id":"first","id":"last"}').status == 204
    assert fields_of(server) == [("last", NOW_MS, 1, "")]


def test_an_idempotency_key_may_come_as_a_header(server: Server) -> None:
    body = orjson.dumps({"id": "a", "timestamp": format_time(NOW_MS)})
    for key in ("from-header", '"from-header"'):
        assert server.track(body, {"Idempotency-Key": key}).status == 204
    assert fields_of(server) == [("a", NOW_MS, 1, "from-header")] * 2


def test_the_same_key_in_body_and_header_is_one_key(server: Server) -> None:
    body = orjson.dumps({"id": "a", "timestamp": format_time(NOW_MS), "key": "k"})
    assert server.track(body, {"Idempotency-Key": "k"}).status == 204


@pytest.mark.parametrize("pieces", [[b'{"id":"a"}'], [b'{"id"', b':"a"}'], [b"{", b'"id":', b'"a"', b"}"]])
def test_a_chunked_body_is_read_to_its_end(server: Server, pieces: list[bytes]) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    head = b"POST /analytics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert server.send_raw(head + chunks).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("offset_ms", [-3 * DAY_MS, 5 * MINUTE_MS])
def test_the_edges_of_the_acceptance_window_are_in_it(server: Server, offset_ms: int) -> None:
    body = {"id": "a", "timestamp": format_time(NOW_MS + offset_ms)}
    assert server.track(orjson.dumps(body)).status == 204


def test_requests_on_one_connection_are_answered_one_by_one(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    for number in range(3):
        connection.request("POST", "/analytics", orjson.dumps({"id": str(number)}))
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
    connection.close()
    assert [hit[0] for hit in fields_of(server)] == ["0", "1", "2"]


# ── bad hits ────────────────────────────────────────────────────────────────────────────────────────────────────────

LONG = "x" * 200
NOT_JSON = {
    "empty": b"",
    "blank": b"  ",
    "text": b"hello",
    "cut short": b'{"id":"a"',
    "two values": b'{"id":"a"}{"id":"b"}',
    "single quotes": b"{'id':'a'}",
    "NaN": b'{"id":"a","weight":NaN}',
    "infinity": b'{"id":"a","weight":Infinity}',
    "invalid UTF-8": b'{"id":"\xff"}',
    "half a surrogate pair": b'{"id":"\\ud800"}',
    "raw control character": b'{"id":"\n"}',
    "byte order mark": b'\xef\xbb\xbf{"id":"a"}',
    "too deep": b'{"id":' + b"[" * 8000,
    "UTF-16": '{"id":"a"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_gets_400(server: Server, body: bytes) -> None:
    reply = server.track(body)
    assert (reply.status, reply.kind) == (400, "not-json")
    assert not server.stream.attempts


def dated(offset_ms: int) -> str:
    return format_time(NOW_MS + offset_ms)


INVALID: dict[str, tuple[object, dict[str, Any]]] = {
    "null": (None, {}),
    "number": (7, {"value": 7}),
    "string": ("a", {"value": "a"}),
    "array": ([{"id": "a"}], {"value": '[{"id":"a"}]'}),
    "no id": ({}, {"field": "id"}),
    "other fields only": ({"weight": 1}, {"field": "id"}),
    "id null": ({"id": None}, {"field": "id", "value": None}),
    "id number": ({"id": 1}, {"field": "id", "value": 1}),
    "id object": ({"id": {"a": 1}}, {"field": "id", "value": '{"a":1}'}),
    "id empty": ({"id": ""}, {"field": "id", "value": ""}),
    "id of 513 bytes": ({"id": "x" * 513}, {"field": "id", "value": "x" * 100 + "…", "limit": 512}),
    "id of 129 emoji": ({"id": "🙂" * 129}, {"field": "id", "value": "🙂" * 100 + "…", "limit": 512}),
    "unknown field": ({"id": "a", "colour": "red"}, {"field": "colour", "value": "red"}),
    "unknown long field": ({"id": "a", LONG: 1}, {"field": LONG[:64]}),
    "weight 0": ({"id": "a", "weight": 0}, {"field": "weight", "value": 0, "limit": 1_000_000}),
    "weight negative": ({"id": "a", "weight": -1}, {"field": "weight", "value": -1, "limit": 1_000_000}),
    "weight 1,000,001": ({"id": "a", "weight": 1_000_001}, {"field": "weight", "value": 1_000_001, "limit": 1_000_000}),
    "weight fraction": ({"id": "a", "weight": 1.5}, {"field": "weight", "value": 1.5}),
    "weight 1.0": ({"id": "a", "weight": 1.0}, {"field": "weight", "value": 1.0}),
    "weight text": ({"id": "a", "weight": "1"}, {"field": "weight", "value": "1"}),
    "weight true": ({"id": "a", "weight": True}, {"field": "weight", "value": True}),
    "weight null": ({"id": "a", "weight": None}, {"field": "weight", "value": None}),
    "time number": ({"id": "a", "timestamp": NOW_MS}, {"field": "timestamp", "value": NOW_MS}),
    "time null": ({"id": "a", "timestamp": None}, {"field": "timestamp", "value": None}),
    "time text": ({"id": "a", "timestamp": "yesterday"}, {"field": "timestamp", "value": "yesterday"}),
    "time without offset": ({"id": "a", "timestamp": "2026-11-24T08:00:00"}, {"field": "timestamp"}),
    "time of no day": ({"id": "a", "timestamp": "2026-02-30T08:00:00Z"}, {"field": "timestamp"}),
    "time too old": (
        {"id": "a", "timestamp": dated(-3 * DAY_MS - 1)},
        {"field": "timestamp", "value": dated(-3 * DAY_MS - 1), "limit": "3 days back"},
    ),
    "time too far ahead": (
        {"id": "a", "timestamp": dated(5 * MINUTE_MS + 1)},
        {"field": "timestamp", "value": dated(5 * MINUTE_MS + 1), "limit": "5 minutes ahead"},
    ),
    "key number": ({"id": "a", "key": 1, "timestamp": dated(0)}, {"field": "key", "value": 1}),
    "key empty": ({"id": "a", "key": "", "timestamp": dated(0)}, {"field": "key", "value": ""}),
    "key of 129 bytes": (
        {"id": "a", "key": "k" * 129, "timestamp": dated(0)},
        {"field": "key", "value": "k" * 100 + "…", "limit": 128},
    ),
    "key without a time": ({"id": "a", "key": "k"}, {"field": "key", "value": "k"}),
    "key of another time": (
        {"id": "a", "key": UUID7, "timestamp": dated(0)},
        {"field": "timestamp", "value": dated(0)},
    ),
    "key that is too old": (
        {"id": "a", "key": UUID7},
        {"field": "key", "value": UUID7, "limit": "3 days back"},
    ),
}


@pytest.mark.parametrize(("body", "named"), INVALID.values(), ids=INVALID.keys())
def test_a_hit_that_breaks_a_rule_gets_422_that_names_field_value_and_limit(
    server: Server, body: object, named: dict[str, Any]
) -> None:
    reply = server.track(orjson.dumps(body))
    assert (reply.status, reply.kind) == (422, "invalid-hit")
    assert {name: reply.json.get(name) for name in named} == named
    assert not server.stream.attempts


def test_a_huge_number_is_shown_as_json_can(server: Server) -> None:
    reply = server.track(b'{"id":"a","weight":' + b"9" * 400 + b"}")
    assert reply.status in (400, 422)
    assert reply.kind in ("not-json", "invalid-hit")


def test_a_uuid7_of_now_needs_no_timestamp(server: Server) -> None:
    key = f"{NOW_MS:012x}"
    key = f"{key[:8]}-{key[8:]}-7cc3-9c1b-3f1d2a6b7c8d"
    assert server.track(orjson.dumps({"id": "a", "key": key})).status == 204
    assert fields_of(server) == [("a", NOW_MS, 1, key)]


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("other", {"field": "key", "value": "k"}),
        ("", {"field": "key", "value": "k"}),
    ],
)
def test_a_key_that_differs_from_its_header_gets_422(server: Server, header: str, named: dict[str, Any]) -> None:
    body = {"id": "a", "timestamp": dated(0), "key": "k"}
    reply = server.track(orjson.dumps(body), {"Idempotency-Key": header})
    assert (reply.status, {name: reply.json.get(name) for name in named}) == (422, named)


def test_a_key_in_the_header_is_held_to_the_same_rules(server: Server) -> None:
    reply = server.track(orjson.dumps({"id": "a", "timestamp": dated(0)}), {"Idempotency-Key": "k" * 129})
    assert (reply.status, reply.json["field"], reply.json["limit"]) == (422, "Idempotency-Key", 128)


# ── too much, too little ────────────────────────────────────────────────────────────────────────────────────────────


def body_of(size: int) -> bytes:
    body = orjson.dumps({"id": "a"})
    return body + b" " * (size - len(body))


def test_a_body_of_16_kib_is_taken_and_one_byte_more_is_too_large(server: Server) -> None:
    assert server.track(body_of(16_384)).status == 204
    reply = server.track(body_of(16_385))
    assert (reply.status, reply.kind, reply.json["limit"]) == (413, "too-large", 16_384)


def test_a_body_that_only_promises_to_be_large_is_refused_before_it_comes(server: Server) -> None:
    head = b"POST /analytics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nconnection: close\r\n\r\n"
    assert server.send_raw(head).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_in_chunks_is_refused_while_it_comes(server: Server) -> None:
    head = b"POST /analytics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    assert server.send_raw(head + 2 * chunk).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "data",
    [
        b"POST /analytics HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n" + b'{"id":"a"}',
        b"POST /analytics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\na\r\n" + b'{"id":"a"}\r\n',
    ],
    ids=["content-length", "chunked"],
)
def test_a_client_that_hangs_up_before_its_body_ends_is_not_counted(server: Server, data: bytes) -> None:
    assert server.send_raw(data, is_hanging_up=True) == b""
    assert server.track(b'{"id":"after"}').status == 204
    assert [hit[0] for hit in fields_of(server)] == ["after"]


MALFORMED = {
    "no http": b"hello\r\n\r\n",
    "path beyond ASCII": b"GET /analytics/\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
    "length of letters": b"POST /analytics HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n",
    "length and chunks": b"POST /analytics HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
    b"transfer-encoding: chunked\r\n\r\n",
    "length too short": b'POST /analytics HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{"id":"a"}',
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_http_gets_a_problem_too(server: Server, data: bytes) -> None:
    answer = server.send_raw(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in answer
    assert not server.stream.attempts


# ── Redis in trouble ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trouble", [REFUSED, UNKNOWN, FULL], ids=["refused", "unknown", "full"])
def test_a_stream_in_trouble_gives_503_with_outcome_within_a_second(server: Server, trouble: StreamUnavailable) -> None:
    server.stream.trouble = trouble
    started = time.monotonic()
    reply = server.track(b'{"id":"a"}')
    assert time.monotonic() - started < 1
    assert (reply.status, reply.kind) == (503, "stream-unavailable")
    assert reply.json["outcome"] == trouble.outcome
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.json["detail"] == str(trouble)


def test_a_lost_answer_is_asked_for_again_and_the_client_sees_nothing_of_it(server: Server) -> None:
    server.stream.steps.append(StreamUnavailable("lost", outcome=Outcome.UNKNOWN))
    assert server.track(b'{"id":"a"}').status == 204
    assert len(server.stream.attempts) == 2


def test_a_fault_of_our_own_is_a_500_that_tells_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("hitcounter_api.hot_path.read_hit", fail)
    reply = server.track(b'{"id":"a"}')
    assert (reply.status, reply.kind) == (500, "internal-error")
    assert b"secret" not in reply.body


# ── all of it at once ───────────────────────────────────────────────────────────────────────────────────────────────


def test_after_ten_thousand_bad_requests_good_ones_still_work(server: Server) -> None:
    bodies = [*NOT_JSON.values(), *(orjson.dumps(body) for body, _ in INVALID.values()), body_of(16_385)]
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    for body in itertools.islice(itertools.cycle(bodies), 10_000):
        connection.request("POST", "/analytics", body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (400, 413, 422)
    for _ in range(50):
        for data in MALFORMED.values():
            server.send_raw(data)
    connection.request("POST", "/analytics", b'{"id":"good"}')
    assert connection.getresponse().status == 204
    connection.close()
    assert fields_of(server) == [("good", NOW_MS, 1, "")]


def test_there_is_no_middleware_since_a_hit_would_not_pass_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def refuse(_app: object, scope: dict[str, str], *_: object) -> None:
        asked.append(scope["path"])

    server.ask("GET", "/nowhere")
    assert server._server is not None
    app = server._server.config.app
    assert isinstance(app, Api)
    assert app.user_middleware == [], "POST /analytics would bypass it: routes/track.py"
    monkeypatch.setattr(type(app), "__call__", refuse)
    head = b"POST /analytics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\n"
    assert server.send_raw(head + b'{"id":"a"}').startswith(b"HTTP/1.1 204 ")  # in one piece, as most hits come
    assert asked == [], "neither FastAPI nor anything around it sees a hit that comes whole"
