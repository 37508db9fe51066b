"""POST /analytics/batch over HTTP: all hits or none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from hitcounter.hits import BATCH_MAX_HITS

from tests.contract.api.server import HOST, Server
from tests.support.stack import wait_until
from tests.unit.api.fakes import FULL

MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    "body", [b'[{"id":"a"},{"id":"b","weight":2}]', b'{"id":"a"}\n{"id":"b","weight":2}\n'], ids=["array", "NDJSON"]
)
def test_a_batch_is_taken_as_one_entry(server: Server, body: bytes) -> None:
    reply = server.track_batch(body)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers.keys() == {"date"}, "as the answer to a single hit"
    assert server.stream.accepted_ids == [["a", "b"]]


def test_a_batch_with_a_bad_hit_lists_it_and_takes_none(server: Server) -> None:
    reply = server.track_batch(b'[{"id":"a"},{"id":""}]')
    assert (reply.status, reply.kind) == (422, "invalid-batch")
    assert reply.json["errors"] == [{"index": 1, "detail": "the id must not be empty", "field": "id", "value": ""}]
    assert not server.stream.attempts


@pytest.mark.parametrize("body", [b"", b"hello", b"[1,", b'{"id":"a"}\nx'])
def test_a_batch_that_is_not_json_gets_400(server: Server, body: bytes) -> None:
    assert server.track_batch(body).kind == "not-json"


def test_a_batch_of_ten_thousand_is_taken_and_one_more_gets_413(server: Server) -> None:
    assert server.track_batch(orjson.dumps([{"id": "a"}] * BATCH_MAX_HITS)).status == 204
    reply = server.track_batch(orjson.dumps([{"id": "a"}] * (BATCH_MAX_HITS + 1)))
    assert (reply.status, reply.kind, reply.json["limit"]) == (413, "too-large", BATCH_MAX_HITS)


def test_silent_clients_in_the_middle_of_their_batches_keep_no_other_out(server: Server) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(100):
            connection = silent.enter_context(socket.create_connection((HOST, server.port), timeout=10))
            connection.sendall(b"POST /analytics/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n[")
        assert server.track_batch(b'[{"id":"a"}]').status == 204


def test_a_batch_of_one_mebibyte_is_taken_and_one_byte_more_gets_413(server: Server) -> None:
    body = b'[{"id":"a"}]'
    assert server.track_batch(body + b" " * (MEBIBYTE - len(body))).status == 204
    reply = server.track_batch(body + b" " * (MEBIBYTE - len(body) + 1))
    assert (reply.status, reply.kind, reply.json["limit"]) == (413, "too-large", MEBIBYTE)


def test_batches_in_progress_keep_the_memory_of_their_bodies_until_they_are_answered(server: Server) -> None:
    may_answer = threading.Event()
    server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]  # its result is not used
    body = b'[{"id":"a"}]'
    large = body + b" " * (MEBIBYTE - len(body))
    with ThreadPoolExecutor(32) as clients:
        replies = [clients.submit(server.track_batch, large) for _ in range(32)]  # of a room for 32 MiB
        try:
            reply = wait_until(lambda: server.track_batch(b"[]"), lambda reply: reply.status == 503, 30)
            assert (reply.kind, reply.json["outcome"]) == ("intake-full", "refused")
        finally:
            may_answer.set()
        assert {reply.result().status for reply in replies} == {204}
    assert server.track_batch(body).status == 204


def test_ten_thousand_bad_hits_are_all_listed(server: Server) -> None:
    reply = server.track_batch(orjson.dumps([{"id": ""}] * BATCH_MAX_HITS))
    assert reply.status == 422
    assert [error["index"] for error in reply.json["errors"]] == list(range(BATCH_MAX_HITS))


def test_a_key_for_a_whole_batch_gets_422(server: Server) -> None:
    reply = server.track_batch(b'[{"id":"a"}]', {"Idempotency-Key": "k"})
    assert (reply.status, reply.kind, reply.json["field"]) == (422, "invalid-batch", "Idempotency-Key")


def test_a_batch_meets_a_full_redis_with_503(server: Server) -> None:
    server.stream.trouble = FULL
    reply = server.track_batch(b'[{"id":"a"}]')
    assert (reply.status, reply.json["outcome"], reply.headers["retry-after"]) == (503, "refused", "5")


def test_a_client_that_hangs_up_within_a_batch_is_not_counted(server: Server) -> None:
    head = b"POST /analytics/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    assert server.send_raw(head + b'[{"id":"a"}]', is_hanging_up=True) == b""
    assert server.track_batch(b'[{"id":"after"}]').status == 204
    assert server.stream.accepted_ids == [["after"]]
