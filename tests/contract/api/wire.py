"""One raw connection to the API: bytes out, whole answers in."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from tests.contract.api.server import HOST

TIMEOUT_SECONDS: Final = 20.0


class Answer(NamedTuple):
    """One answer as it came."""

    status: int
    head: bytes
    body: bytes

    @classmethod
    def cut_from(cls, received: bytes, *, has_body: bool = True) -> tuple[Self, bytes] | None:
        """Return the first answer of what was received and what follows it; None as long as it is not whole."""
        head, found, rest = received.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = head.lower().split(b"\r\n")
        lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
        assert len(lengths) <= 1
        length = lengths[0] if lengths and has_body else 0
        if len(rest) < length:
            return None
        assert lines[0].startswith(b"http/1.1 "), f"no answer begins here: {received[:200]!r}"
        return cls(int(lines[0].split()[1]), head, rest[:length]), rest[length:]


class Wire:
    """A connection. What comes is read while bytes are sent, so that neither side waits for the other."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send the pieces, each by itself, as long as the server takes them."""
        for piece in pieces:
            unsent = memoryview(piece)
            while unsent and not self._is_over:
                readable, writable, _ = select.select([self._socket], [self._socket], [], TIMEOUT_SECONDS)
                if readable:
                    self._read()
                elif writable:
                    try:
                        unsent = unsent[self._socket.send(unsent) :]
                    except OSError:  # it has hung up; what it said before is still there
                        break

    def close_own_side(self) -> None:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def read_answer(self, *, has_body: bool = True) -> Answer | None:
        """Return the next answer; None where the server closes the connection before it.

        Raises:
            TimeoutError: neither comes.
        """
        while True:
            cut = Answer.cut_from(self._received, has_body=has_body)
            if cut is not None:
                answer, self._received = cut
                return answer
            if self._is_over:
                assert not self._received, f"half an answer: {self._received!r}"
                return None
            self._read()

    def read_answers(self, count: int, *, have_bodies: bool = True) -> list[Answer]:
        """Return so many answers, or fewer where the server closes the connection before."""
        answers = (self.read_answer(has_body=have_bodies) for _ in range(count))
        return [answer for answer in answers if answer is not None]

    def read_statuses(self, count: int, *, have_bodies: bool = True) -> tuple[int, ...]:
        """Return the statuses of so many answers, or of fewer where the server closes the connection before."""
        return tuple(answer.status for answer in self.read_answers(count, have_bodies=have_bodies))

    def _read(self) -> None:
        try:
            piece = self._socket.recv(65536)
        except ConnectionError:
            piece = b""
        self._is_over = not piece
        self._received += piece
