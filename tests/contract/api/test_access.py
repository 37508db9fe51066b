"""Mode keys, as an attacker sees it: each scope against each route, on the fast path and on the ASGI path."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import orjson
import pytest
from fastapi.routing import APIRoute
from hitcounter.errors import IndexUnavailable
from hitcounter_api.access import ROUTE_SCOPES, Access, find_authorization, take_url_keys
from hitcounter_api.app import Api
from hitcounter_api.keys import KeySet, Scope, parse_keys
from hitcounter_api.problems import Kind, Problem
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.api.corpus import framed, in_chunks, request
from tests.contract.api.server import Reply, Server
from tests.contract.api.test_logs import Log, log  # noqa: F401 - a fixture
from tests.unit.api.fakes import FakeReader, FakeStream

TOKENS = {
    "tracker": "hc_tracker",
    "reader": "hc_reader",
    "admin": "hc_admin",
    "all": "hc_all",
    "blog": "hc_blog",
    "blog-tracker": "hc_blog-tracker",
}
SCOPES = {
    "tracker": ["track"],
    "reader": ["read"],
    "admin": ["admin"],
    "all": ["track", "read", "admin"],
    "blog": ["track", "read"],
    "blog-tracker": ["track"],
}
PREFIXES = {"blog": ["/blog/", "caf\u00e9/"], "blog-tracker": ["/blog/"]}


def build_keys(*, without: str = "", **anonymous: object) -> KeySet:
    entries: list[dict[str, object]] = [
        {
            "name": name,
            "sha256": hashlib.sha256(token.encode()).hexdigest(),
            "scopes": SCOPES[name],
            "prefixes": PREFIXES.get(name, []),
        }
        for name, token in TOKENS.items()
        if name != without
    ]
    if anonymous:
        entries.append({"name": "anonymous", "anonymous": True, **anonymous})
    return parse_keys(orjson.dumps({"keys": entries}))


@dataclass
class Source:
    keys: KeySet


SOURCE = Source(build_keys())


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[Server]:
    with Server(has_page=True, access=Access(SOURCE)) as server:
        yield server


@pytest.fixture
def server(guarded_server: Server) -> Server:
    SOURCE.keys = build_keys()
    guarded_server.stream.__dict__.update(FakeStream().__dict__)
    guarded_server.reader.__dict__.update(FakeReader().__dict__)
    return guarded_server


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[name]}"}


def challenge_of(reply: Reply) -> str:
    assert reply.kind in ("unauthorized", "forbidden")
    return reply.headers["www-authenticate"]


# ── routes and scopes ───────────────────────────────────────────────────────────────────────────────────────────────

CALLS = {
    ("POST", "/analytics"): ("/analytics", b'{"id":"/blog/1"}', 204),
    ("POST", "/analytics/batch"): ("/analytics/batch", b'[{"id":"/blog/1"}]', 204),
    ("GET", "/analytics/{id:any_text}"): ("/analytics//blog/1", None, 200),
    ("GET", "/history/{id:any_text}"): ("/history//blog/1", None, 200),
    ("GET", "/status"): ("/status", None, 200),
    ("GET", "/"): ("/", None, 200),
    ("GET", "/docs"): ("/docs", None, 200),
    ("GET", "/openapi.json"): ("/openapi.json", None, 200),
    ("GET", "/livez"): ("/livez", None, 200),
}


def test_every_route_has_a_scope_and_there_is_no_other(server: Server) -> None:
    assert server._server is not None
    app = server._server.config.app
    assert isinstance(app, Api)
    routes = {
        (method, route.path): route  # type: ignore[attr-defined]
        for route in app.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert routes.keys() == ROUTE_SCOPES.keys() == CALLS.keys()
    unguarded = {call for call, route in routes.items() if not isinstance(route, APIRoute)}
    assert all(ROUTE_SCOPES[call] is None for call in unguarded), "only FastAPI's own routes are asked for a key"


def test_a_route_that_is_not_in_the_table_is_closed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitcounter_api.app.ROUTE_SCOPES", {})
    assert server.ask("GET", "/status", headers=bearer("all")).status == 500


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("call", CALLS, ids=[" ".join(call) for call in CALLS])
def test_each_key_may_do_what_its_scopes_say(server: Server, call: tuple[str, str], name: str) -> None:
    path, body, status = CALLS[call]
    needed = ROUTE_SCOPES[call]
    methods = ["GET", "HEAD"] if call[0] == "GET" else [call[0]]
    for method in methods:
        reply = server.ask(method, path, body, bearer(name))
        assert reply.status == (status if needed is None or needed in SCOPES[name] else 403), method
        if reply.status == 403:
            assert f'error="insufficient_scope", scope="{needed}"' in reply.headers["www-authenticate"]
    assert bool(server.stream.accepted) == (call[0] == "POST" and "track" in SCOPES[name])
    assert bool(server.reader.asked) == (needed is Scope.READ and "read" in SCOPES[name])


@pytest.mark.parametrize("call", CALLS, ids=[" ".join(call) for call in CALLS])
def test_without_a_key_there_is_only_what_has_no_data(server: Server, call: tuple[str, str]) -> None:
    path, body, status = CALLS[call]
    reply = server.ask(call[0], path, body)
    if ROUTE_SCOPES[call] is None:
        assert reply.status == status
    else:
        assert (reply.status, challenge_of(reply)) == (401, 'Bearer realm="hitcounter"')
    assert not server.stream.attempts
    assert not server.reader.asked


@pytest.mark.parametrize("call", CALLS, ids=[" ".join(call) for call in CALLS])
def test_the_anonymous_entry_says_what_may_be_done_without_a_key(server: Server, call: tuple[str, str]) -> None:
    SOURCE.keys = build_keys(scopes=["track"], prefixes=["/blog/"])
    path, body, status = CALLS[call]
    reply = server.ask(call[0], path, body)
    assert reply.status == (status if ROUTE_SCOPES[call] in (None, Scope.TRACK) else 401)
    assert server.track(b'{"id":"/shop/1"}').status == 403
    assert server.track(b'{"id":"/blog/1"}', {"authorization": "Bearer hc_wrong"}).status == 401, "not as anonymous"


def test_methods_and_paths_that_do_not_exist_need_no_key(server: Server) -> None:
    assert server.ask("GET", "/nowhere").status == 404
    assert server.ask("PUT", "/analytics", b"{}").status == 405
    assert server.ask("OPTIONS", "/analytics").status == 204


# ── the fast path and the ASGI path ─────────────────────────────────────────────────────────────────────────────────


def send(server: Server, head: bytes, body: bytes = b'{"id":"/blog/1"}', *, fast: bool) -> bytes:
    """Send a hit on one of the two paths, and return the whole answer."""
    line = b"POST /analytics HTTP/1.1" if fast else b"POST /analytics?x=y HTTP/1.1"
    return server.send_raw(request(body, head + b"connection: close\r\n", line=line))


@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "ASGI path"])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"authorization: Bearer hc_tracker\r\n", 204),
        (b"Authorization: bearer hc_tracker\r\n", 204),
        (b"authorization: BEARER   hc_tracker \t\r\n", 204),
        (b"", 401),
        (b"authorization:\r\n", 401),
        (b"authorization: hc_tracker\r\n", 401),
        (b"authorization: Bearer\r\n", 401),
        (b"authorization: Bearer \r\n", 401),
        (b"authorization: Bearer hc_wrong\r\n", 401),
        (b"authorization: Bearer hc_tracker2\r\n", 401),
        (b"authorization: Bearer hc_tracke\r\n", 401),
        (b"authorization: Bearer HC_TRACKER\r\n", 401),
        (b"authorization: Bearer hc_tracker=\r\n", 401),
        (b"authorization: Bearer hc_tracker, Bearer hc_tracker\r\n", 401),
        (b"authorization: Bearer hc_tracker\r\nauthorization: Bearer hc_tracker\r\n", 401),
        (b"authorization: Bearer hc_wrong\r\nauthorization: Bearer hc_tracker\r\n", 401),
        (b'authorization: Bearer "hc_tracker"\r\n', 401),
        (b"authorization: Bearer hc%5ftracker\r\n", 401),
        (b"authorization: Bearer hc_tr\xc3\xa4cker\r\n", 401),
        (b"authorization: Bearer\thc_tracker\r\n", 401),
        (b"authorization: Basic aGNfdHJhY2tlcjo=\r\n", 401),
        (b"authorization: Bearer " + b"x" * 5_000 + b"\r\n", 401),
        (b"x-authorization: Bearer hc_tracker\r\n", 401),
        (b"proxy-authorization: Bearer hc_tracker\r\n", 401),
        (b"authorization: Bearer hc_reader\r\n", 403),
    ],
)
def test_a_header_is_one_bearer_token_or_nothing(server: Server, head: bytes, status: int, *, fast: bool) -> None:
    answer = send(server, head, fast=fast)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"www-authenticate: Bearer realm" in answer) == (status != 204)
    assert b"hc_" not in answer, "a token is in no answer"
    assert len(server.stream.accepted) == (status == 204)


def test_both_paths_refuse_alike(server: Server) -> None:
    for head in (b"", b"authorization: Bearer x\r\n", b"authorization: Bearer hc_reader\r\n"):
        fast, asgi = (send(server, head, fast=fast) for fast in (True, False))
        assert fast.split(b"\r\n")[0] == asgi.split(b"\r\n")[0]
        assert fast.split(b"\r\n\r\n")[1] == asgi.split(b"\r\n\r\n")[1]


def test_a_bug_in_the_check_of_keys_is_a_500_on_both_paths(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    before = server.read_metric("hitcounter_internal_errors_total")
    monkeypatch.setattr(SOURCE, "keys", None)
    for fast in (True, False):
        answer = send(server, b"authorization: Bearer hc_tracker\r\n", fast=fast)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"urn:hitcounter:problem:internal-error" in answer
    assert server.read_metric("hitcounter_internal_errors_total") == before + 2


def test_a_key_in_a_trailer_is_no_key(server: Server) -> None:
    trailers = b"authorization: Bearer hc_tracker\r\n"
    headers = b"connection: close\r\ntransfer-encoding: chunked\r\n"
    assert server.send_raw(framed(headers, in_chunks(trailers=trailers))).startswith(b"HTTP/1.1 401 ")
    assert not server.stream.attempts


def test_a_connection_keeps_no_key_for_its_next_request(server: Server) -> None:
    good = request(headers=b"authorization: Bearer hc_tracker\r\n")
    answers = server.send_raw(good + request() + good + request(headers=b"connection: close\r\n"))
    assert [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]] == [b"204", b"401", b"204", b"401"]
    assert len(server.stream.accepted_ids) > 0


def test_a_request_without_a_key_is_refused_before_its_body_comes(server: Server) -> None:
    for path in (b"/analytics", b"/analytics/batch"):
        head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n" % path
        assert server.send_raw(head).startswith(b"HTTP/1.1 401 ")


# ── keys in the URL ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/analytics", "/analytics/batch"])
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("key=hc_tracker", 204),
        ("a=b&key=hc_tracker&c", 204),
        ("%6bey=hc%5Ftracker", 204),
        ("key=", 401),
        ("key", 401),
        ("Key=hc_tracker", 401),
        ("key=hc_wrong", 401),
        ("key=hc_tracker%00", 401),
        ("key=hc_tracker%0a", 401),
        ("key=hc_tracker+", 401),
        ("key=hc_tracker&key=hc_tracker", 401),
        ("key=hc_wrong&key=hc_tracker", 401),
        ("key=hc_all", 401),
        ("key=hc_blog", 401),
        ("key=hc_reader", 401),
    ],
)
def test_a_key_that_only_tracks_may_be_in_the_url(server: Server, path: str, query: str, status: int) -> None:
    body = b'{"id":"/blog/1"}' if path == "/analytics" else b'[{"id":"/blog/1"}]'
    reply = server.ask("POST", f"{path}?{query}", body)
    assert reply.status == status
    assert b"hc_" not in reply.body
    assert len(server.stream.accepted) == (status == 204)


def test_a_key_in_the_url_reads_nothing(server: Server) -> None:
    for path in ("/analytics/a", "/history/a", "/status"):
        assert server.ask("GET", f"{path}?key={TOKENS['all']}").status == 401
        assert server.ask("GET", f"{path}?key={TOKENS['tracker']}", headers=bearer("all")).status == 200


def test_a_key_in_the_header_and_in_the_url_is_one_too_many(server: Server) -> None:
    reply = server.ask("POST", "/analytics?key=hc_tracker", b'{"id":"a"}', bearer("tracker"))
    assert (reply.status, reply.kind) == (401, "unauthorized")


@given(
    st.lists(st.sampled_from([b"key=a", b"%6bey=b", b"k%65y", b"key", b"", b"Key=c", b"=", b"x=key=d"])).map(b"&".join)
)
def test_no_key_stays_in_a_query(query: bytes) -> None:
    kept, keys = take_url_keys(query)
    assert kept == b"&".join([pair for pair in query.split(b"&") if pair not in NAMED_KEY])
    assert list(keys) == [NAMED_KEY[pair] for pair in query.split(b"&") if pair in NAMED_KEY]


NAMED_KEY = {b"key=a": b"a", b"%6bey=b": b"b", b"k%65y": b"", b"key": b""}


# ── prefixes ────────────────────────────────────────────────────────────────────────────────────────────────────────

ALLOWED = ["/blog/", "/blog/1", "/blog/../secret", "/blog/%2e", "/blog/\0", "caf\u00e9/1"]
"""Ids are opaque: one with `..` is an id of its own, and nobody resolves it."""
REFUSED = [
    "/blog",
    "/Blog/1",
    "/BLOG/1",
    "blog/1",
    "//blog/1",
    "/./blog/1",
    "/shop/../blog/1",
    "/blog%2F1",
    "%2Fblog/1",
    "\0/blog/1",
    " /blog/1",
    "\n/blog/1",
    "\ufeff/blog/1",
    "\u2215blog\u22151",
    "\uff0fblog\uff0f1",
    "cafe\u0301/1",
    "CAF\u00c9/1",
]


@pytest.mark.parametrize(("id_", "is_allowed"), [(id_, True) for id_ in ALLOWED] + [(id_, False) for id_ in REFUSED])
def test_a_prefix_is_compared_character_by_character(server: Server, id_: str, *, is_allowed: bool) -> None:
    hit = orjson.dumps({"id": id_})
    encoded = quote(id_, safe="")
    replies = [
        server.track(hit, bearer("blog")),
        server.ask("POST", "/analytics?key=hc_blog-tracker", hit) if id_.startswith("/") else None,
        server.track_batch(b"[" + hit + b"]", bearer("blog")),
        server.ask("GET", f"/analytics/{encoded}", headers=bearer("blog")),
        server.ask("GET", f"/history/{encoded}", headers=bearer("blog")),
    ]
    for reply in filter(None, replies):
        assert (reply.status in (200, 204)) == is_allowed
        if not is_allowed:
            assert (reply.status, reply.kind, reply.json["field"]) == (403, "forbidden", "id")
    assert bool(server.stream.accepted) == bool(server.reader.asked) == is_allowed


@pytest.mark.parametrize("path", ["/analytics/%2Fblog/1", "/analytics//blog/1", "/analytics/%2fblog%2f1"])
def test_an_id_is_decoded_once_before_its_prefix_is_compared(server: Server, path: str) -> None:
    assert server.ask("GET", path, headers=bearer("blog")).status == 200
    double = path.replace("/analytics/", "/analytics/%252F")
    assert server.ask("GET", double, headers=bearer("blog")).status == 403


def test_a_batch_with_one_id_that_is_not_allowed_is_refused_whole(server: Server) -> None:
    hits = [{"id": f"/blog/{number}"} for number in range(2_000)] + [{"id": "/shop/1"}]
    assert server.track_batch(orjson.dumps(hits), bearer("blog")).status == 403
    assert not server.stream.attempts


def test_without_prefixes_no_id_of_a_batch_is_compared(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("hitcounter_api.routes.track.check_id")
    assert server.track_batch(b'[{"id":"/shop/1"}]', bearer("tracker")).status == 204


# ── what is told, and to whom ───────────────────────────────────────────────────────────────────────────────────────


def test_log_lines_have_the_name_of_the_key_and_never_its_token(
    server: Server,
    log: Log,  # noqa: F811
) -> None:
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer")
    server.ask("GET", "/analytics/never-read?key=hc_reader", headers=bearer("reader"))
    line = log.wait_for_line()
    assert line["caller"] == "reader"
    server.ask("GET", "/analytics/x", headers={"authorization": "Bearer hc_reader2"})
    server.ask("POST", "/analytics?key=hc_admin", b'{"id":"a"}')
    server.send_raw(request(line=b"POST /analytics?key=hc_\xc3\xa9 HTTP/1.1"))
    server.send_raw(request(line=b"POST http://?key=hc_tracker HTTP/1.1"))
    assert "hc_" not in str(log.lines)


def test_what_is_not_a_url_is_not_repeated(server: Server) -> None:
    for target in (b"/analytics?key=hc_\xc3\xa9", b"http://?key=hc_tracker", b"analytics?key=hc_tracker"):
        answer = server.send_raw(request(line=b"POST " + target + b" HTTP/1.1"))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"hc_" not in answer


def test_refusals_are_counted_by_their_kind_alone(server: Server) -> None:
    before = {slug: server.read_metric("hitcounter_invalid_requests_total", problem=slug, field="") for slug in SLUGS}
    server.track(b'{"id":"a"}')
    server.ask("GET", "/status")
    server.ask("GET", "/status", headers=bearer("reader"))
    after = {slug: server.read_metric("hitcounter_invalid_requests_total", problem=slug, field="") for slug in SLUGS}
    assert [after[slug] - before[slug] for slug in SLUGS] == [2, 1]


SLUGS = [Kind.UNAUTHORIZED.slug, Kind.FORBIDDEN.slug]


# ── keys that change ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_that_is_taken_out_of_the_file_is_refused_from_the_next_request_on(server: Server) -> None:
    assert server.track(b'{"id":"a"}', bearer("tracker")).status == 204
    assert server.track(b'{"id":"a"}', bearer("tracker")).status == 204, "by the remembered header"
    SOURCE.keys = build_keys(without="tracker")
    assert server.track(b'{"id":"a"}', bearer("tracker")).status == 401
    assert server.track(b'{"id":"a"}', bearer("all")).status == 204


def test_requests_during_reloads_see_the_old_keys_or_the_new_ones(server: Server) -> None:
    versions = [build_keys(), build_keys(without="blog")]
    is_over = threading.Event()

    def reload() -> None:
        while not is_over.is_set():
            for version in versions:
                SOURCE.keys = version

    reloading = threading.Thread(target=reload)
    reloading.start()
    try:
        for _ in range(200):
            assert server.track(b'{"id":"a"}', bearer("tracker")).status == 204
            assert server.track(b'{"id":"/blog/1"}', bearer("blog")).status in (204, 401)
    finally:
        is_over.set()
        reloading.join()


# ── fuzz ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.sampled_from([b"", b"Bearer ", b"bearer hc_tracker", b"Bearer hc_tracker "]),
    st.binary(max_size=40) | st.text("Bearer hc_tak, \t=", max_size=20).map(str.encode),
)
def test_any_header_is_one_of_our_keys_or_a_401(begin: bytes, end: bytes) -> None:
    header = begin + end
    names = {f"bearer {TOKENS[name]}".encode(): name for name in TOKENS}
    expected = names.get(re.sub(rb"^bearer +", b"bearer ", header.rstrip(b" \t"), flags=re.IGNORECASE))
    try:
        found = Access(Source(build_keys())).admit(Scope.TRACK, header).name
    except Problem as error:
        found = None
        assert error.kind is Kind.UNAUTHORIZED  # noqa: PT017 - both ways are right
    assert found == expected


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x"]), st.binary(max_size=10))))
def test_headers_are_joined_if_there_are_several(headers: list[tuple[bytes, bytes]]) -> None:
    values = [value for name, value in headers if name == b"authorization"]
    assert find_authorization(headers) == (b", ".join(values) if values else None)
