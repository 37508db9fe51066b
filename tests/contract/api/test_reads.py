"""GET /analytics/{id} and GET /status over HTTP."""

from __future__ import annotations

import orjson
import pytest
from hitcounter.errors import IndexUnavailable, StreamUnavailable

from tests.contract.api.server import Server
from tests.unit.api.fakes import NOW_MS, build_status


def test_an_answer_has_exactly_the_five_windows_in_their_order(server: Server) -> None:
    reply = server.ask("GET", "/analytics/a")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.body == orjson.dumps(
        {
            "id": "a",
            "counts": [
                {"reference": "3 days ago", "count": 5},
                {"reference": "2 days ago", "count": 4},
                {"reference": "1 day ago", "count": 3},
                {"reference": "1 hour ago", "count": 2},
                {"reference": "5 minutes ago", "count": 1},
            ],
        }
    )
    assert server.reader.asked == [("a", NOW_MS)]


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("/analytics/batch", "batch"),
        ("/analytics/a/b", "a/b"),
        ("/analytics/a%2Fb", "a/b"),
        ("/analytics//", "/"),
        ("/analytics/a/", "a/"),
        ("/analytics/../status", "../status"),
        ("/analytics/.", "."),
        ("/analytics/a%20b", "a b"),
        ("/analytics/a+b", "a+b"),
        ("/analytics/%0A", "\n"),
        ("/analytics/a%0Ab%0A", "a\nb\n"),
        ("/analytics/%00", "\0"),
        ("/analytics/%F0%9F%99%82", "🙂"),
        ("/analytics/%25", "%"),
        ("/analytics/" + "%F0%9F%99%82" * 128, "🙂" * 128),
    ],
)
def test_everything_after_the_prefix_is_the_id(server: Server, path: str, id_: str) -> None:
    reply = server.ask("GET", path)
    assert reply.status == 200
    assert reply.json["id"] == id_
    assert server.reader.asked == [(id_, NOW_MS)]


@pytest.mark.parametrize("path", ["/analytics/%", "/analytics/%zz", "/analytics/%ff", "/analytics/%ed%a0%80"])
def test_a_path_that_is_not_percent_encoded_utf8_gets_400(server: Server, path: str) -> None:
    reply = server.ask("GET", path)
    assert (reply.status, reply.kind, reply.json["field"]) == (400, "malformed-path", "id")
    assert not server.reader.asked


def test_an_empty_id_gets_422(server: Server) -> None:
    reply = server.ask("GET", "/analytics/")
    assert (reply.status, reply.kind, reply.json["field"]) == (422, "invalid-hit", "id")


def test_an_id_of_513_bytes_gets_422_that_says_so(server: Server) -> None:
    reply = server.ask("GET", "/analytics/" + "x" * 513)
    assert (reply.status, reply.json["field"], reply.json["limit"]) == (422, "id", 512)


def test_an_answer_says_what_it_is_worth(server: Server) -> None:
    server.show_queue(build_status(accepted=7, as_of_ms=NOW_MS - 1))
    headers = server.ask("GET", "/analytics/a").headers
    assert headers["hitcounter-as-of"] == "2026-11-24T07:59:59.999Z"
    assert headers["hitcounter-backlog"] == "7"
    assert "hitcounter-stale" not in headers


def test_last_known_counts_are_marked_as_stale(server: Server) -> None:
    server.show_queue(build_status(as_of_ms=NOW_MS - 1000))
    fresh = server.ask("GET", "/analytics/stale")
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer")
    server.show_queue(build_status(as_of_ms=NOW_MS, accepted=3))
    stale = server.ask("GET", "/analytics/stale")
    assert (stale.status, stale.body) == (200, fresh.body)
    assert stale.headers["hitcounter-stale"] == "true"
    assert stale.headers["hitcounter-as-of"] == fresh.headers["hitcounter-as-of"]
    assert stale.headers["hitcounter-backlog"] == "3"


def test_an_id_that_was_never_read_gets_503_and_no_zero(server: Server) -> None:
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer", retry_after_seconds=3)
    reply = server.ask("GET", "/analytics/never-read")
    assert (reply.status, reply.kind, reply.headers["retry-after"]) == (503, "index-unavailable", "3")


@pytest.mark.parametrize(
    ("query", "number", "step_seconds"), [("", 72, 3600), ("?step=hour", 72, 3600), ("?step=minute", 60, 60)]
)
def test_a_history_has_every_step_up_to_now(server: Server, query: str, number: int, step_seconds: int) -> None:
    server.show_queue(build_status())
    reply = server.ask("GET", f"/history/a%2Fb{query}")
    assert reply.status == 200
    assert reply.json == {
        "id": "a/b",
        "step_seconds": step_seconds,
        "end": "2026-11-24T08:00:00.000Z",
        "counts": list(range(number)),
    }
    assert reply.headers["hitcounter-backlog"] == "0"


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("?step=day", "day"),
        ("?step=", ""),
        ("?step=hour&step=hour", "hour,hour"),
        (f"?step={'x' * 500}", f"{'x' * 100}…"),
    ],
)
def test_a_history_of_other_steps_gets_422_that_names_them(server: Server, query: str, value: str) -> None:
    reply = server.ask("GET", f"/history/a{query}")
    assert (reply.status, reply.kind) == (422, "invalid-query")
    assert (reply.json["field"], reply.json["value"], reply.json["limit"]) == ("step", value, "minute or hour")
    assert reply.json["detail"] == "the step must be minute or hour"
    assert not server.reader.asked


def test_there_is_no_history_while_elasticsearch_is_away(server: Server) -> None:
    assert server.ask("GET", "/history/a").status == 200
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer")
    reply = server.ask("GET", "/history/a")
    assert (reply.status, reply.kind) == (503, "index-unavailable")


def test_status_shows_the_ledger_and_the_queue(server: Server) -> None:
    server.stream.status_now = build_status(accepted=10, indexed=8, as_of_ms=NOW_MS)
    reply = server.ask("GET", "/status")
    assert reply.status == 200
    assert set(reply.json["versions"]) == {"hitcounter"}
    assert reply.json == {
        "now": "2026-11-24T08:00:00.000Z",
        "accepted": 10,
        "indexed": 8,
        "duplicate": 0,
        "dead": 0,
        "backlog": 2,
        "entries": 0,
        "oldest_age_seconds": 0.0,
        "as_of": "2026-11-24T08:00:00.000Z",
        "indexers_wanted": None,
        "versions": reply.json["versions"],
    }


def test_status_has_no_as_of_before_the_first_indexer(server: Server) -> None:
    assert server.ask("GET", "/status").json["as_of"] is None


def test_status_without_redis_is_a_503(server: Server) -> None:
    server.stream.trouble = StreamUnavailable("Redis does not answer")
    reply = server.ask("GET", "/status")
    assert (reply.status, reply.kind, reply.headers["retry-after"]) == (503, "stream-unavailable", "1")


@pytest.mark.parametrize("path", ["/nothing", "/history", "/history%2Fa", "/analyticsx", "/analytics%2Fx", "/status/"])
def test_nothing_there_is_a_404(server: Server, path: str) -> None:
    reply = server.ask("GET", path)
    assert (reply.status, reply.kind) == (404, "not-found")
