"""HTTP/1.1 as the API speaks it over real sockets: every row of the corpus, however its bytes are cut into reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hitcounter.entries import Durability
from hitcounter_api import protocol

from tests.contract.api.corpus import CORPUS, HIT, TRAILERS, Row, framed, in_chunks, request
from tests.contract.api.server import Server
from tests.contract.api.wire import Wire
from tests.support.stack import wait_until

ROWS = [pytest.param(row, id=f"{chapter}: {row.name}") for chapter, rows in CORPUS.items() for row in rows]


def whole(sent: bytes) -> list[bytes]:
    return [sent]


def byte_by_byte(sent: bytes) -> list[bytes]:
    return [sent[at : at + 1] for at in range(len(sent))]


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_its_answers_its_hits_and_its_end(
    server: Server, row: Row, cut: Callable[[bytes], list[bytes]]
) -> None:
    check(server, row, cut(row.sent))


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_the_same_where_its_read_is_parsed_in_small_slices(
    server: Server, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SLICE_BYTES", 7)
    check(server, row, [row.sent])


def check(server: Server, row: Row, pieces: list[bytes]) -> None:
    hits = list(row.hits)
    with Wire(server.port) as wire:
        wire.send(pieces)
        answers = wire.read_answers(len(row.answers), have_bodies=row.has_bodies)
        assert tuple(answer.status for answer in answers) == row.answers
        for answer in answers:
            assert (b"\r\ndate: " in answer.head) == (answer.status >= 200), "RFC 9110, 6.6.1"
        if row.stays_open:  # and in step: what it answers next belongs to what is sent next
            wire.send([request(b'{"id":"next"}')])
            assert wire.read_statuses(1) == (204,)
            hits.append("next")
        else:
            assert wire.read_answer() is None, "the connection is closed, and nothing more is answered"
    assert sorted(itertools.chain.from_iterable(server.stream.accepted_ids)) == sorted(hits)


@pytest.mark.parametrize("row", [row for row in TRAILERS if row.stays_open], ids=lambda row: row.name)
def test_trailers_are_no_headers(server: Server, row: Row) -> None:
    check(server, row, [row.sent])
    server.stream.durabilities.clear()
    with Wire(server.port) as wire:
        sent = framed(b"transfer-encoding: chunked\r\n", in_chunks(trailers=b"hitcounter-durability: disk\r\n"))
        wire.send([sent, b""])
        assert wire.read_statuses(1) == (204,)
    assert server.stream.durabilities == [Durability.MEMORY]


@pytest.mark.parametrize("hit", [request(), framed(b"transfer-encoding: chunked\r\n", in_chunks())])
def test_ten_thousand_pipelined_hits_are_answered_in_order(server: Server, hit: bytes) -> None:
    bad = request(b"{}")
    with Wire(server.port) as wire:
        wire.send([(hit * 99 + bad) * 100])
        assert wire.read_statuses(10_000) == ((204,) * 99 + (422,)) * 100
    assert sum(map(len, server.stream.accepted_ids)) == 9_900


def test_a_client_that_closes_its_side_behind_a_pipeline_has_all_answers(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send([request() * 500])
        wire.close_own_side()
        assert wire.read_statuses(501) == (204,) * 500
    assert sum(map(len, server.stream.accepted_ids)) == 500


def test_a_client_that_waits_to_be_told_to_go_on_is_told(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send([request(headers=b"expect: 100-continue\r\n").removesuffix(HIT)])
        assert wire.read_statuses(1) == (100,)
        wire.send([HIT])
        assert wire.read_statuses(1) == (204,)


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
def test_a_body_that_comes_after_the_head_that_offers_an_upgrade_is_still_its_body(
    server: Server, offer: bytes
) -> None:
    smuggled = request(b'{"id":"smuggled"}')
    sent = request(smuggled, b"connection: upgrade\r\nupgrade: %b\r\n" % offer)
    with Wire(server.port) as wire:
        wire.send([sent.removesuffix(smuggled)])
        server.ask("GET", "/nowhere")  # the head has been read, then
        wire.send([smuggled])
        assert wire.read_statuses(1) == (400,)
        wire.send([request()])
        assert wire.read_statuses(1) == (204,)
    wait_until(lambda: server.stream.accepted_ids, lambda ids: ids == [["a"]])


@pytest.mark.parametrize("path", [b"/analytics", b"/analytics?x=y"], ids=["fast", "ASGI"])
def test_connection_close_in_a_trailer_is_told_in_the_answer(server: Server, path: bytes) -> None:
    """The parser obeys it, and would drop every later request without a word (RFC 9112, 9.6)."""
    sent = framed(
        b"transfer-encoding: chunked\r\n",
        in_chunks(trailers=b"connection: close\r\n"),
        line=b"POST %b HTTP/1.1" % path,
    )
    with Wire(server.port) as wire:
        wire.send([sent + request()])
        answer = wire.read_answer()
        assert answer is not None
        assert answer.status == 204
        assert b"\r\nconnection: close" in answer.head
        assert wire.read_answer() is None
