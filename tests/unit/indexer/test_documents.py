"""The merge rule (id rule 1): which hits become one document, under which id, with which sum."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hitcounter.codec import HitBatch, build_batch, decode, encode
from hitcounter.hits import BATCH_MAX_HITS, DAY_MS, Hit
from hitcounter.indices import document_id, document_id_prefix, keyed_document_id
from hitcounter_indexer.documents import Document, build_actions, build_documents
from hypothesis import given
from hypothesis import strategies as st

PRODUCER = bytes(range(12))
NOW_MS = 1_795_507_200_000  # 2026-11-24T08:00:00Z
DAY = "hits-2026.11.24"
PREFIX = document_id_prefix(PRODUCER, 7)


def documents_of(*hits: Hit) -> list[Document]:
    return build_documents(build_batch(PRODUCER, 7, hits), "hits")


hits = st.lists(
    st.builds(
        Hit,
        id=st.sampled_from(["a", "b", "🐦"]),
        timestamp_ms=st.sampled_from([NOW_MS, NOW_MS + 1, NOW_MS - DAY_MS]),
        weight=st.integers(1, 1_000_000),
        key=st.sampled_from(["", "", "k", "l"]),
    ),
    min_size=1,
    max_size=40,
)


# ── merging ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hits_of_one_id_in_one_millisecond_become_one_document_at_the_first_ones_position() -> None:
    first, second = documents_of(
        Hit("a", NOW_MS), Hit("b", NOW_MS), Hit("a", NOW_MS), Hit("b", NOW_MS), Hit("a", NOW_MS)
    )
    assert (first.id, first.position, first.hits, first.n) == ("a", 0, 3, 3)
    assert (second.id, second.position, second.hits, second.n) == ("b", 1, 2, 2)
    assert (first.document_id, second.document_id) == (document_id(PREFIX, 0), document_id(PREFIX, 1))


def test_weights_of_merged_hits_are_added_up_and_their_hits_are_counted() -> None:
    (document,) = documents_of(Hit("a", NOW_MS, 2), Hit("a", NOW_MS, 1_000_000), Hit("a", NOW_MS))
    assert (document.n, document.hits) == (1_000_003, 3)


def test_largest_batch_of_heaviest_hits_on_one_id_is_one_document() -> None:
    (document,) = documents_of(*[Hit("a", NOW_MS, 1_000_000)] * BATCH_MAX_HITS)
    assert (document.n, document.hits) == (10_000_000_000, BATCH_MAX_HITS)


def test_hits_a_millisecond_apart_stay_apart() -> None:
    assert [document.timestamp_ms for document in documents_of(Hit("a", NOW_MS), Hit("a", NOW_MS + 1))] == [
        NOW_MS,
        NOW_MS + 1,
    ]


def test_hit_with_a_key_never_merges_with_any_other() -> None:
    documents = documents_of(
        Hit("a", NOW_MS), Hit("a", NOW_MS, key="k"), Hit("a", NOW_MS), Hit("a", NOW_MS, key="l"), Hit("a", NOW_MS)
    )
    assert [(document.position, document.hits, document.is_keyed) for document in documents] == [
        (0, 3, False),
        (1, 1, True),
        (3, 1, True),
    ]


def test_key_sent_twice_in_one_batch_is_two_documents_of_one_id_so_the_second_is_a_duplicate() -> None:
    one, other = documents_of(Hit("a", NOW_MS, key="k"), Hit("a", NOW_MS, key="k"))
    assert one.document_id == other.document_id == keyed_document_id("a", "k", NOW_MS)


def test_key_gives_the_same_document_whatever_batch_brings_it() -> None:
    hit = Hit("a", NOW_MS, key="k")
    (one,) = build_documents(build_batch(PRODUCER, 7, [hit]), "hits")
    *_, other = build_documents(build_batch(bytes(12), 99, [Hit("b", NOW_MS), hit]), "hits")
    assert one.document_id == other.document_id
    assert one.index_name == other.index_name


def test_documents_stand_in_the_order_of_their_positions() -> None:
    documents = documents_of(Hit("b", NOW_MS), Hit("a", NOW_MS, key="k"), Hit("a", NOW_MS), Hit("b", NOW_MS, key="k"))
    assert [document.position for document in documents] == [0, 1, 2, 3]


@given(hits)
def test_no_hit_and_no_weight_is_lost_or_doubled_by_merging(hits: list[Hit]) -> None:
    documents = documents_of(*hits)
    assert sum(document.hits for document in documents) == len(hits)
    weights, sums = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for hit in hits:
        weights[hit.id, hit.timestamp_ms] += hit.weight
    for document in documents:
        sums[document.id, document.timestamp_ms] += document.n
    assert sums == weights


@given(hits)
def test_redelivered_entry_gives_the_same_documents_under_the_same_ids(hits: list[Hit]) -> None:
    payload = encode(build_batch(PRODUCER, 7, hits))
    assert build_documents(decode(payload), "hits") == build_documents(decode(payload), "hits") == documents_of(*hits)


@given(hits)
def test_documents_without_a_key_have_different_ids_and_positions(hits: list[Hit]) -> None:
    plain = [document for document in documents_of(*hits) if not document.is_keyed]
    assert len({document.document_id for document in plain}) == len(plain)
    assert len({document.position for document in documents_of(*hits)}) == len(documents_of(*hits))


def test_batch_of_several_days_goes_into_the_index_of_each_hits_own_day() -> None:
    midnight_ms = NOW_MS // DAY_MS * DAY_MS
    documents = documents_of(Hit("a", midnight_ms), Hit("a", midnight_ms - 1), Hit("a", midnight_ms + DAY_MS))
    assert [document.index_name for document in documents] == ["hits-2026.11.24", "hits-2026.11.23", "hits-2026.11.25"]


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_action_creates_the_document_through_the_write_alias_of_its_day() -> None:
    (action,) = build_actions(documents_of(Hit("a/b", NOW_MS, 3)))
    assert action.lines == (
        b'{"create":{"_index":"hits-2026.11.24-write","_id":"%b"}}\n'
        b'{"id":"a/b","timestamp":1795507200000,"n":3}\n' % document_id(PREFIX, 0).encode()
    )
    assert (action.position, action.hits, action.index_name, action.is_keyed) == (0, 1, DAY, False)


@given(st.text(min_size=1, max_size=50), st.text(max_size=20))
def test_action_is_two_lines_of_json_whatever_the_id(id_: str, key: str) -> None:
    (action,) = build_actions(documents_of(Hit(id_, NOW_MS, key=key)))
    create, document, end = action.lines.split(b"\n")
    assert orjson.loads(create)["create"].keys() == {"_index", "_id"}
    assert orjson.loads(document) == {"id": id_, "timestamp": NOW_MS, "n": 1}
    assert end == b""


@pytest.mark.parametrize("count", [1, 3])
def test_each_document_has_one_action_in_the_same_order(count: int) -> None:
    documents = documents_of(*[Hit(f"id-{number}", NOW_MS) for number in range(count)])
    assert [action.position for action in build_actions(documents)] == list(range(count))


def test_batch_without_columns_of_weights_and_keys_is_of_weight_one_and_without_keys() -> None:
    (document,) = build_documents(HitBatch(PRODUCER, 7, ["a"], [NOW_MS]), "hits")
    assert (document.n, document.is_keyed) == (1, False)
