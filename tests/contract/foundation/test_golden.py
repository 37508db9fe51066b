"""The contract, pinned by files: what an entry's bytes mean, and which documents they become.

The files in ../golden are never edited, only joined by new ones: a change that breaks one of these tests would make
entries that are in somebody's stream at this moment unreadable, or count them twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hitcounter.codec import HitBatch, build_batch, decode, encode
from hitcounter.errors import EntryTooNew
from hitcounter.hits import Hit
from hitcounter_indexer.documents import Document, build_actions, build_documents

GOLDEN = Path(__file__).parents[1] / "golden"

PRODUCER = bytes(range(12))
T = 1_795_564_799_999  # 2026-11-24T23:59:59.999Z, a millisecond before midnight

PLAIN_HITS = [Hit("1", T), Hit("1", T), Hit("a/b c", T + 1), Hit("🐦", T - 3_600_000), Hit("1", T + 1), Hit("1", T)]
RICH_HITS = [
    Hit("1", T, 5),
    Hit("1", T, 1_000_000, "order-17"),
    Hit('quote " back\\slash \n NUL \0', T, 2),
    Hit("1", T, 1),
    Hit("é" * 256, T + 1, 1, "🔑"),
    Hit("1", T, 1, "order-17"),
]
BATCHES = {
    "plain": build_batch(PRODUCER, 1, PLAIN_HITS),
    "rich": build_batch(b"\xff" * 12, 2**48 - 1, RICH_HITS),
}


def read_golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def as_hits(batch: HitBatch) -> list[Hit]:
    columns = (batch.ids, batch.times_ms, batch.weights or [1] * len(batch), batch.keys or [""] * len(batch))
    return [Hit(*hit) for hit in zip(*columns, strict=True)]


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BATCHES)
def test_golden_bytes_mean_the_same_hits_as_ever(name: str) -> None:
    batch, expected = decode(read_golden(name)), BATCHES[name]
    assert as_hits(batch) == as_hits(expected)
    assert (batch.producer, batch.sequence, batch.id_rule) == (expected.producer, expected.sequence, 1)


@pytest.mark.parametrize("name", BATCHES)
def test_same_hits_are_encoded_as_the_same_bytes_as_ever(name: str) -> None:
    assert encode(BATCHES[name]).hex() == read_golden(name).hex()


def test_entry_with_a_field_that_we_do_not_know_is_read_as_if_it_were_not_there() -> None:
    assert as_hits(decode(read_golden("unknown-field"))) == PLAIN_HITS


def test_entry_that_asks_for_a_newer_reader_is_left_to_it() -> None:
    with pytest.raises(EntryTooNew, match="reader of version 2"):
        decode(read_golden("min-reader-2"))


def test_entry_that_follows_a_newer_id_rule_is_left_to_an_indexer_that_knows_it() -> None:
    with pytest.raises(EntryTooNew, match="rule 2"):
        decode(read_golden("id-rule-2"))


# ── documents ───────────────────────────────────────────────────────────────────────────────────────────────────────


def documents_of(name: str) -> list[Document]:
    return build_documents(decode(read_golden(name)), "hits")


def test_plain_hits_become_these_documents() -> None:
    prefix = "AAECAwQFBgcICQoLAAAAAAAB"
    assert documents_of("plain") == [
        Document(0, 3, "hits-2026.11.24", prefix + "AAAA", "1", T, 3, False),
        Document(2, 1, "hits-2026.11.25", prefix + "AAAC", "a/b c", T + 1, 1, False),
        Document(3, 1, "hits-2026.11.24", prefix + "AAAD", "🐦", T - 3_600_000, 1, False),
        Document(4, 1, "hits-2026.11.25", prefix + "AAAE", "1", T + 1, 1, False),
    ]


def test_rich_hits_become_these_documents() -> None:
    prefix, keyed_1, keyed_2 = "_" * 24, "5NgomnLgafi-4L52He4EdxynsOAZVJvb", "1LxOnzA5mDW0G_wzhq8B0tEmWrcpftMj"
    assert documents_of("rich") == [
        Document(0, 2, "hits-2026.11.24", prefix + "AAAA", "1", T, 6, False),
        Document(1, 1, "hits-2026.11.24", keyed_1, "1", T, 1_000_000, True),
        Document(2, 1, "hits-2026.11.24", prefix + "AAAC", RICH_HITS[2].id, T, 2, False),
        Document(4, 1, "hits-2026.11.25", keyed_2, "é" * 256, T + 1, 1, True),
        Document(5, 1, "hits-2026.11.24", keyed_1, "1", T, 1, True),
    ]


@pytest.mark.parametrize("name", BATCHES)
def test_bulk_asks_for_the_documents_with_these_bytes(name: str) -> None:
    lines = b"".join(action.lines for action in build_actions(documents_of(name)))
    assert lines == (GOLDEN / f"{name}.ndjson").read_bytes()
