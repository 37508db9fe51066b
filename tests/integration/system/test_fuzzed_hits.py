"""Any hits at all, through the whole path: each window counts what a plain model of the rules counts."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import pytest
from hitcounter.hits import ID_MAX_BYTES, KEY_MAX_BYTES, WEIGHT_MAX
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stack import Api, Stack

_ROOM_FOR_A_NAME: Final = 17
"""Bytes that each example adds to its ids, so that it counts alone."""
_WINDOW_MINUTES: Final = {
    "3 days ago": 3 * 24 * 60,
    "2 days ago": 2 * 24 * 60,
    "1 day ago": 24 * 60,
    "1 hour ago": 60,
    "5 minutes ago": 5,
}
_AGES: Final = st.sampled_from([0, 1, 3, 7, 55, 65, 60 * 23, 60 * 25, 60 * 47, 60 * 49, 60 * 71])
"""In minutes: on both sides of every window's edge, with minutes to spare until the counts are read."""


@dataclass(frozen=True)
class Sent:
    """A hit as a client means it; without an age it has the time of its arrival."""

    id: str
    weight: int | None
    age_minutes: int | None
    key: str | None
    offset: timezone
    """Whose clock its timestamp is written in."""

    def write(self, now: datetime, name: str) -> dict[str, object]:
        """Return the fields to send."""
        fields: dict[str, object] = {"id": name + self.id}
        if self.weight is not None:
            fields["weight"] = self.weight
        if self.age_minutes is not None:
            at = now - timedelta(minutes=self.age_minutes)
            fields["timestamp"] = at.astimezone(self.offset).isoformat()
            if self.key is not None:
                fields["key"] = self.key
        return fields


@pytest.fixture(scope="module")
def api(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    folder: Path = tmp_path_factory.mktemp("fuzzed-hits")
    with Stack(redis_server.url, elasticsearch_server.url, folder) as stack:
        stack.indexer()
        yield stack.api()


def texts(max_bytes: int) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=["Cs"])
    return st.text(characters, min_size=1, max_size=max_bytes // 4) | st.just("x" * max_bytes)


hits = st.builds(
    Sent,
    id=st.sampled_from(["hot", "/", "%2F", "a b", ""]) | texts(ID_MAX_BYTES - _ROOM_FOR_A_NAME),
    weight=st.none() | st.integers(1, WEIGHT_MAX),
    age_minutes=st.none() | _AGES,
    key=st.none() | st.sampled_from(["order-17", "order-18"]) | texts(KEY_MAX_BYTES),
    offset=st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@settings(max_examples=settings().max_examples // 10)
@given(sent=st.lists(st.lists(hits, min_size=1, max_size=20), min_size=1, max_size=3))
def test_any_hits_are_counted_in_each_window_as_a_plain_model_counts_them(api: Api, sent: list[list[Sent]]) -> None:
    now, name = datetime.now(UTC), f"{secrets.token_hex(8)} "
    for batch in sent:
        track(api, [hit.write(now, name) for hit in batch])
    status = api.wait_drained()
    assert (status["dead"], status["accepted"]) == (0, status["indexed"] + status["duplicate"])
    expected = count(hit for batch in sent for hit in batch)
    assert {id_: api.counts(name + id_) for id_ in expected} == expected


def count(hits: Iterator[Sent]) -> dict[str, dict[str, int]]:
    """Count the hits by id and window: the first of those with the same id, key and time counts."""
    seen: set[tuple[str, str, int]] = set()
    counts: dict[str, dict[str, int]] = {}
    for hit in hits:
        windows = counts.setdefault(hit.id, dict.fromkeys(_WINDOW_MINUTES, 0))
        if hit.key is not None and hit.age_minutes is not None:
            if (hit.id, hit.key, hit.age_minutes) in seen:
                continue
            seen.add((hit.id, hit.key, hit.age_minutes))
        for window, minutes in _WINDOW_MINUTES.items():
            if (hit.age_minutes or 0) < minutes:
                windows[window] += hit.weight or 1
    return counts


def track(api: Api, batch: Sequence[dict[str, object]]) -> None:
    request = urllib.request.Request(f"{api.url}/analytics/batch", data=json.dumps(batch).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204
