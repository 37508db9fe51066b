"""One connection, fed by hand: answers in one piece, in many, two at once, and none."""

import asyncio
from itertools import pairwise
from unittest.mock import Mock

import pytest
from hitcounter_benchmark.connection import NO_CONTENT, Answer, Connection

FOUND = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nHitcounter-As-Of: 2026-11-23T12:00:00Z\r\n\r\n{}"
ANSWER = Answer(200, {"content-length": "2", "hitcounter-as-of": "2026-11-23T12:00:00Z"}, b"{}")


class Wire:
    """A connection without a network: what was answered, and whether it was lost or cut."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.losses = 0
        self.transport = Mock(spec=asyncio.Transport)
        self.connection = Connection(self.answers.append, self._lose)
        self.connection.connection_made(self.transport)

    def _lose(self) -> None:
        self.losses += 1


def test_plain_204_is_the_one_known_object() -> None:
    wire = Wire()
    wire.connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert wire.answers[0] is NO_CONTENT


def test_204_with_headers_is_plain_too() -> None:
    wire = Wire()
    wire.connection.data_received(b"HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n")
    assert wire.answers[0] is NO_CONTENT


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_answer_in_pieces_is_one_answer(size: int) -> None:
    wire = Wire()
    for start, end in pairwise([*range(0, len(FOUND), size), len(FOUND)]):
        wire.connection.data_received(FOUND[start:end])
    assert wire.answers == [ANSWER]


@pytest.mark.parametrize("size", [1, 5, 26])
def test_204_in_pieces_is_a_204(size: int) -> None:
    wire = Wire()
    data = b"HTTP/1.1 204 No Content\r\n\r\n"
    for start in range(0, len(data), size):
        wire.connection.data_received(data[start : start + size])
    assert [answer.status for answer in wire.answers] == [204]


def test_plain_204_after_a_parsed_answer_is_recognised_again() -> None:
    wire = Wire()
    wire.connection.data_received(FOUND)
    wire.connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert wire.answers == [ANSWER, NO_CONTENT]


@pytest.mark.parametrize("name", [b"Connection", b"connection"])
def test_a_server_that_closes_is_not_sent_to_again(name: bytes) -> None:
    wire = Wire()
    wire.connection.data_received(b"HTTP/1.1 204 No Content\r\n" + name + b": close\r\n\r\n")
    assert [answer.status for answer in wire.answers] == [204]
    assert not wire.connection.is_open
    wire.transport.abort.assert_called()
    with pytest.raises(ConnectionError):
        wire.connection.send(b"GET / HTTP/1.1\r\n\r\n")


def test_what_is_not_http_cuts_the_connection() -> None:
    wire = Wire()
    wire.connection.data_received(b"+PONG\r\n")
    assert wire.answers == []
    assert not wire.connection.is_open


def test_the_end_is_told_once() -> None:
    wire = Wire()
    wire.connection.connection_lost(None)
    assert wire.losses == 1
    assert not wire.connection.is_open
