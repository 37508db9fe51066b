"""Reading what a client sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from hitcounter.entries import Durability
from hitcounter.errors import InvalidHit
from hitcounter_api.intake import IntakeFull
from hitcounter_api.problems import Kind, Problem
from hitcounter_api.requests import (
    BodyRoom,
    ClientGone,
    Receive,
    TrackHeaders,
    read_body,
    read_headers,
    read_id,
    read_traceparent,
)
from hypothesis import given
from hypothesis import strategies as st

PREFIX = b"/analytics/"


def piece(body: bytes, *, more_body: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more_body}


def receiving(*messages: Mapping[str, Any]) -> Receive:
    """An ASGI channel that gives these messages and then hangs."""
    left = list(messages)

    async def receive() -> Mapping[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "messages",
    [
        [piece(b"abcdef")],
        [{"type": "http.request", "body": b"abcdef"}],
        [piece(b"abc", more_body=True), piece(b"def")],
        [piece(b"", more_body=True), piece(b"abcdef", more_body=True), {"type": "http.request"}],
    ],
    ids=["whole", "no more_body", "two pieces", "empty pieces"],
)
async def test_a_body_is_read_to_its_end(messages: Sequence[Mapping[str, Any]]) -> None:
    assert await read_body(receiving(*messages), 0, 6) == b"abcdef"


async def test_bodies_that_arrive_share_one_room_and_give_it_back() -> None:
    room = BodyRoom(10)

    async def read(body: bytes, *, more_body: bool = False) -> bytes:
        with room.reserve() as reserve:
            return await read_body(receiving(piece(body, more_body=more_body)), 0, 10, reserve)

    arriving = asyncio.create_task(read(b"123456", more_body=True))
    await asyncio.sleep(0)
    assert await read(b"1234") == b"1234"
    with pytest.raises(IntakeFull, match="already take 6 bytes"):
        await read(b"12345")
    arriving.cancel()
    await asyncio.wait([arriving])
    assert await read(b"1234567890") == b"1234567890"


async def test_a_body_keeps_its_room_while_its_request_is_in_progress() -> None:
    room = BodyRoom(10)
    with room.reserve() as reserve:
        await read_body(receiving(piece(b"123456")), 0, 10, reserve)
        with room.reserve() as another, pytest.raises(IntakeFull):
            another(5)
    with room.reserve() as reserve:
        reserve(10)


async def test_a_body_that_says_it_is_too_large_is_not_even_read() -> None:
    with pytest.raises(Problem) as caught:
        await read_body(receiving(), 7, 6)
    assert caught.value.kind is Kind.TOO_LARGE
    assert caught.value.members == {"value": 7, "limit": 6}


async def test_a_whole_body_that_is_too_large_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        await read_body(receiving(piece(b"abcdefg")), 0, 6)
    assert caught.value.kind is Kind.TOO_LARGE


async def test_an_endless_body_is_refused_at_the_limit() -> None:
    with pytest.raises(Problem) as caught:
        await read_body(receiving(piece(b"abcd", more_body=True), piece(b"efgh", more_body=True)), 0, 6)
    assert caught.value.kind is Kind.TOO_LARGE


@pytest.mark.parametrize("first", [[], [piece(b"abc", more_body=True)]], ids=["at once", "midway"])
async def test_a_client_that_hangs_up_leaves_nothing_to_answer(first: list[Mapping[str, Any]]) -> None:
    with pytest.raises(ClientGone):
        await read_body(receiving(*first, {"type": "http.disconnect"}), 0, 6)


@pytest.mark.parametrize("first", [[], [piece(b"abc", more_body=True)]], ids=["at once", "midway"])
async def test_a_body_that_does_not_come_is_given_up(
    monkeypatch: pytest.MonkeyPatch, first: list[Mapping[str, Any]]
) -> None:
    monkeypatch.setattr("hitcounter_api.requests.BODY_MAX_SECONDS", 0.01)
    with pytest.raises(Problem) as caught:
        await read_body(receiving(*first), 0, 6)
    assert caught.value.kind is Kind.SLOW_BODY
    assert ("connection", "close") in caught.value.headers


# ── headers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_headers_that_do_not_matter_do_not_matter() -> None:
    assert read_headers([(b"host", b"x"), (b"content-type", b"text/plain")]) == TrackHeaders()


@pytest.mark.parametrize(
    ("value", "key"),
    [(b"abc", "abc"), (b'"abc"', "abc"), (b'"', '"'), (b"abc \t", "abc"), (b'a"b"', 'a"b"'), ("ü".encode(), "ü")],
)
def test_an_idempotency_key_comes_with_or_without_quotes(value: bytes, key: str) -> None:
    assert read_headers([(b"content-length", b"12"), (b"idempotency-key", value)]) == TrackHeaders(12, key)


def test_two_idempotency_keys_are_one_too_many() -> None:
    with pytest.raises(InvalidHit, match="more than one"):
        read_headers([(b"idempotency-key", b"a"), (b"idempotency-key", b"a")])


def test_an_idempotency_key_must_be_utf8() -> None:
    with pytest.raises(InvalidHit, match="UTF-8"):
        read_headers([(b"idempotency-key", b"\xff")])


# ── ids ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128), st.sampled_from(["", "/"]))
def test_any_id_survives_percent_encoding(id_: str, safe: str) -> None:
    assert read_id(PREFIX + quote(id_, safe=safe).encode(), PREFIX) == id_


@pytest.mark.parametrize(
    ("encoded", "id_"),
    [
        (b"a/b", "a/b"),
        (b"a%2Fb", "a/b"),
        (b"a%252Fb", "a%2Fb"),
        (b"../x", "../x"),
        (b"/", "/"),
        (b"//a//", "//a//"),
        (b"a+b", "a+b"),
        (b"%00", "\0"),
        (b"batch", "batch"),
    ],
)
def test_an_id_is_decoded_once_and_otherwise_left_alone(encoded: bytes, id_: str) -> None:
    assert read_id(PREFIX + encoded, PREFIX) == id_


@pytest.mark.parametrize("encoded", [b"%", b"a%2", b"%zz", b"%ff", b"%c3", b"%ed%a0%80", b"%c0%af"])
def test_an_id_that_is_not_percent_encoded_utf8_is_malformed(encoded: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read_id(PREFIX + encoded, PREFIX)
    assert caught.value.kind is Kind.MALFORMED_PATH


@pytest.mark.parametrize("encoded", [b"", b"x" * 513, b"%F0%9F%99%82" * 129])
def test_an_id_that_breaks_a_rule_is_invalid(encoded: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read_id(PREFIX + encoded, PREFIX)
    assert caught.value.kind is Kind.INVALID_HIT
    assert caught.value.members["field"] == "id"


def test_an_encoded_prefix_is_another_path() -> None:
    with pytest.raises(Problem) as caught:
        read_id(b"/analytics%2Fx", PREFIX)
    assert caught.value.kind is Kind.NOT_FOUND


def test_the_durability_is_read_or_refused() -> None:
    assert read_headers([(b"hitcounter-durability", b"disk")]).durability is Durability.DISK
    with pytest.raises(InvalidHit, match="memory or disk"):
        read_headers([(b"hitcounter-durability", b"tape")])


# ── traceparent ─────────────────────────────────────────────────────────────────────────────────────────────────────

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_is_called_by_its_own_traceparent() -> None:
    assert read_traceparent([(b"host", b"x"), (b"traceparent", TRACEPARENT.encode())]) == TRACEPARENT
    assert read_traceparent([(b"traceparent", f"cc{TRACEPARENT[2:]}-more".encode())]) == f"cc{TRACEPARENT[2:]}"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"ff" + TRACEPARENT[2:].encode(),
        TRACEPARENT.upper().encode(),
        TRACEPARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32).encode(),
        TRACEPARENT.replace("b7ad6b7169203331", "0" * 16).encode(),
        b'" injected="',
        TRACEPARENT.encode() + b"\n",
    ],
)
def test_what_is_no_traceparent_is_replaced(value: bytes) -> None:
    found = read_traceparent([(b"traceparent", value)])
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", found)
