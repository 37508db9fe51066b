"""The role of people who repair: dead letters can be listed, replayed and discarded."""

from __future__ import annotations

from typing import cast

from hitcounter.entries import StoredDeadLetter
from hitcounter.redis_client import translate_redis_errors
from hitcounter.stream.connection import StreamConnection
from hitcounter.stream.records import Items, build_dead_letter


class DeadLetters:
    """The stream of dead letters. Only a settlement adds to it."""

    def __init__(self, connection: StreamConnection) -> None:
        self._keys = connection.keys
        self._redis = connection.redis
        self._replay = connection.load_script("replay")

    async def list_page(self, *, after: str | None = None, count: int = 100) -> list[StoredDeadLetter]:
        """Return up to count dead letters that follow the id, oldest first."""
        with translate_redis_errors("list the dead letters"):
            found = await self._redis.xrange(self._keys.dead, min=f"({after}" if after else "-", count=count)
        return [build_dead_letter(letter_id, fields) for letter_id, fields in cast("Items", found)]

    async def find(self, letter_id: str) -> StoredDeadLetter | None:
        """Return the dead letter with that id; None if it does not exist."""
        with translate_redis_errors("look up a dead letter"):
            found = cast("Items", await self._redis.xrange(self._keys.dead, min=letter_id, max=letter_id))
        return build_dead_letter(*found[0]) if found else None

    async def replay(self, letter_id: str) -> bool:
        """Move a dead letter back into the backlog; False if it does not exist.

        Its documents keep their ids, so that none is counted twice. Other hits of its batch are not indexed again.
        """
        with translate_redis_errors("replay a dead letter"):
            return bool(await self._replay([self._keys.stream, self._keys.ledger, self._keys.dead], [letter_id]))

    async def discard(self, letter_id: str) -> bool:
        """Delete a dead letter permanently; its hits still count as dead. False if it does not exist."""
        with translate_redis_errors("discard a dead letter"):
            return bool(await self._redis.xdel(self._keys.dead, letter_id))
