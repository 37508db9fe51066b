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
    server.stream.status_now = build_status(accepted=7, as_of_ms=NOW_MS - 1)
    headers = server.ask("GET", "/analytics/a").headers
    assert headers["hitcounter-as-of"] == "2026-11-24T07:59:59.999Z"
    assert headers["hitcounter-backlog"] == "7"
    assert "hitcounter-stale" not in headers


def test_last_known_counts_are_marked_as_stale(server: Server) -> None:
    server.stream.status_now = build_status(as_of_ms=NOW_MS - 1000)
    fresh = server.ask("GET", "/analytics/stale")
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer")
    server.stream.status_now = build_status(as_of_ms=NOW_MS, accepted=3)
    stale = server.ask("GET", "/analytics/stale")
    assert (stale.status, stale.body) == (200, fresh.body)
    assert stale.headers["hitcounter-stale"] == "true"
    assert stale.headers["hitcounter-as-of"] == fresh.headers["hitcounter-as-of"]
    assert stale.headers["hitcounter-backlog"] == "3"


def test_an_id_that_was_never_read_gets_503_and_no_zero(server: Server) -> None:
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer", retry_after_seconds=3)
    reply = server.ask("GET", "/analytics/never-read")
    assert (reply.status, reply.kind, reply.headers["retry-after"]) == (503, "index-unavailable", "3")


def test_status_shows_the_ledger_and_the_queue(server: Server) -> None:
    server.stream.status_now = build_status(accepted=10, indexed=8, as_of_ms=NOW_MS)
    reply = server.ask("GET", "/status")
    assert reply.status == 200
    assert set(reply.json["versions"]) == {"hitcounter"}
    assert reply.json == {
        "accepted": 10,
        "indexed": 8,
        "duplicate": 0,
        "dead": 0,
        "backlog": 2,
        "entries": 0,
        "oldest_age_seconds": 0.0,
        "as_of": "2026-11-24T08:00:00.000Z",
        "versions": reply.json["versions"],
    }


def test_status_has_no_as_of_before_the_first_indexer(server: Server) -> None:
    assert server.ask("GET", "/status").json["as_of"] is None


def test_status_without_redis_is_a_503(server: Server) -> None:
    server.stream.trouble = StreamUnavailable("Redis does not answer")
    reply = server.ask("GET", "/status")
    assert (reply.status, reply.kind, reply.headers["retry-after"]) == (503, "stream-unavailable", "1")


@pytest.mark.parametrize("path", ["/", "/nothing", "/analyticsx", "/analytics%2Fx", "/status/"])
def test_nothing_there_is_a_404(server: Server, path: str) -> None:
    reply = server.ask("GET", path)
    assert (reply.status, reply.kind) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/analytics", "POST"),
        ("PUT", "/analytics", "POST"),
        ("POST", "/analytics/", "GET"),
        ("POST", "/analytics/a", "GET"),
        ("DELETE", "/analytics/a", "GET"),
        ("DELETE", "/analytics/batch", "GET, POST"),
        ("POST", "/status", "GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    server: Server, method: str, path: str, allowed: str
) -> None:
    reply = server.ask(method, path)
    assert (reply.status, reply.kind, reply.headers["allow"]) == (405, "method-not-allowed", allowed)
