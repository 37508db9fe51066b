"""The ledger, looked at again and again while everything goes wrong: in Redis itself, and as GET /status shows it."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from typing import Any, Final

from hitcounter.stream import GROUP, Keys
from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.record import Record

_PERIOD_SECONDS: Final = 0.25
_MOST_COMPLAINTS: Final = 20
_MOST_COUNTED: Final = 5000
"""Entries that are counted one by one; Redis stands still meanwhile."""

# One atomic look at the ledger and at every entry. It may run while Redis is full, since it writes nothing.
_LOOK: Final = """#!lua flags=no-writes
local function count(stream)
    if redis.call('XLEN', stream) > tonumber(ARGV[2]) then return -1 end
    local hits = 0
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
        for at = 1, #entry[2], 2 do
            if entry[2][at] == 'hits' then hits = hits + entry[2][at + 1] end
        end
    end
    return hits
end
local ledger = redis.call('HMGET', KEYS[1], 'accepted', 'indexed', 'duplicate', 'dead')
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local time = redis.call('TIME')
local pending = redis.pcall('XPENDING', KEYS[2], ARGV[1])[1] or 0 -- an error has no first element
local added = redis.pcall('XINFO', 'STREAM', KEYS[2])[12] or 0
return {
    tonumber(ledger[1] or '0'), tonumber(ledger[2] or '0'), tonumber(ledger[3] or '0'), tonumber(ledger[4] or '0'),
    count(KEYS[2]), count(KEYS[3]), tonumber(redis.call('GET', KEYS[4]) or '0'),
    oldest and tonumber(string.match(oldest[1], '^%d+')) or 0,
    time[1] * 1000 + math.floor(time[2] / 1000), pending, added
}
"""


@dataclass(frozen=True, slots=True)
class Look:
    """One atomic look into Redis; all but the times in hits."""

    accepted: int
    indexed: int
    duplicate: int
    dead: int
    in_stream: int
    """By the entries' own word; -1 where they are too many to be asked."""
    in_dead_letters: int
    as_of_ms: int
    """0 before the first."""
    oldest_ms: int
    """When the oldest entry was added; 0 where there is none."""
    redis_ms: int = 0
    """Redis's own time."""
    pending: int = 0
    """Entries in flight."""
    added: int = 0
    """Entries that were ever added."""

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest entry has waited, by Redis's clock."""
        return max(0.0, (self.redis_ms - self.oldest_ms) / 1000) if self.oldest_ms else 0.0

    @property
    def backlog(self) -> int:
        """By the ledger."""
        return self.accepted - self.indexed - self.duplicate - self.dead


def find_faults(before: Look | None, now: Look, *, least_accepted: int, most_accepted: int) -> list[str]:
    """Tell what is wrong with a look. Pure.

    Args:
        before: the look before this one.
        now: this one.
        least_accepted: hits that had been acknowledged before it.
        most_accepted: hits that had been sent after it.
    """
    complaints = {
        f"the ledger has a backlog of {now.backlog}, the stream holds {now.in_stream} hits": (
            now.in_stream >= 0 and now.backlog != now.in_stream
        ),
        f"the ledger has {now.dead} dead hits, the dead letters hold {now.in_dead_letters}": (
            now.in_dead_letters >= 0 and now.dead != now.in_dead_letters
        ),
        f"{now.accepted} hits are booked as accepted, {least_accepted} had been acknowledged": (
            now.accepted < least_accepted
        ),
        f"{now.accepted} hits are booked as accepted, only {most_accepted} had been sent": now.accepted > most_accepted,
        f"the as-of is {now.as_of_ms}, and an entry of {now.oldest_ms} is not settled": (
            0 < now.oldest_ms < now.as_of_ms
        ),
    }
    if before is not None:
        complaints |= {
            f"{name} went back from {getattr(before, name)} to {getattr(now, name)}": (
                getattr(now, name) < getattr(before, name)
            )
            for name in ("accepted", "indexed", "duplicate", "dead")
        }
        # One that lies ahead of a clock that was set back gives way (publish.lua).
        complaints[f"the as-of went back from {before.as_of_ms} to {now.as_of_ms}"] = (
            now.as_of_ms < before.as_of_ms <= now.redis_ms
        )
    return [complaint for complaint, is_true in complaints.items() if is_true]


def find_fault_of_status(status: dict[str, Any]) -> str | None:
    """Tell what is wrong with an answer of GET /status. Pure."""
    settled = status["indexed"] + status["duplicate"] + status["dead"]
    if status["backlog"] < 0 or status["accepted"] != settled + status["backlog"]:
        return f"/status does not balance: {status}"
    return None


class Sampler:
    """Looks at the ledger four times a second, on a thread of its own, until stopped; a context manager.

    Attributes:
        samples: the looks that succeeded.
        statuses: the answers of GET /status that were seen.
        complaints: what was wrong, the first ones.
        freshness: (when, as-of) of each look, both in milliseconds since the Unix epoch.
        largest_backlog: in hits.
    """

    def __init__(self, redis_url: str, prefix: str, api_urls: Sequence[str], record: Record) -> None:
        self.samples = 0
        self.statuses = 0
        self.complaints: list[str] = []
        self.freshness: list[tuple[int, int]] = []
        self.largest_backlog = 0
        self.last: Look | None = None
        self._redis_url = redis_url
        self._keys = Keys(prefix)
        self._apis = cycle(api_urls)
        self._record = record
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self._sample()
            self._ask()

    def _sample(self) -> None:
        least_accepted = self._record.acknowledged_attempts
        try:
            now = self.look()
        except (RedisError, OSError):
            return
        self.samples += 1
        found = find_faults(self.last, now, least_accepted=least_accepted, most_accepted=self._record.sent_attempts)
        self._complain(found)
        self.last = now
        self.largest_backlog = max(self.largest_backlog, now.backlog)
        self.freshness.append((time.time_ns() // 1_000_000, now.as_of_ms))

    def look(self) -> Look:
        """Return one look.

        Raises:
            RedisError, OSError: Redis is away.
        """
        keys = self._keys
        # A connection of its own for each look: after a failover an older one might lead to a mere replica.
        with Redis.from_url(self._redis_url, socket_timeout=5.0) as redis:
            found = redis.eval(_LOOK, 4, keys.ledger, keys.stream, keys.dead, keys.as_of, GROUP, _MOST_COUNTED)
        assert isinstance(found, list)
        return Look(*(int(number) for number in found))

    def _ask(self) -> None:
        try:
            with urllib.request.urlopen(f"{next(self._apis)}/status", timeout=1) as answer:
                status = json.load(answer)
        except OSError:
            return
        self.statuses += 1
        if (fault := find_fault_of_status(status)) is not None:
            self._complain([fault])

    def _complain(self, complaints: Sequence[str]) -> None:
        for complaint in complaints[: _MOST_COMPLAINTS - len(self.complaints)]:
            self.complaints.append(f"{datetime.now():%H:%M:%S}: {complaint}")
