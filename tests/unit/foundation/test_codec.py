"""What goes into the stream comes out again; what breaks the contract is told apart from what is too new."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hitcounter.codec import (
    ID_RULE,
    PRODUCER_BYTES,
    READER_VERSION,
    SEQUENCE_MAX,
    TIME_MAX_MS,
    VERSION_MAX,
    HitBatch,
    build_batch,
    decode,
    encode,
)
from hitcounter.errors import EntryTooNew, UndecodableEntry
from hitcounter.hits import BATCH_MAX_HITS, WEIGHT_MAX, Hit
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage
from hypothesis import given
from hypothesis import strategies as st

PRODUCER = bytes(range(PRODUCER_BYTES))
NOW_MS = 1_795_507_200_000
THREE_DAYS_MS = 3 * 24 * 60 * 60 * 1000

hits = st.lists(
    st.builds(
        Hit,
        id=st.text(min_size=1, max_size=40),
        timestamp_ms=st.integers(NOW_MS - THREE_DAYS_MS, NOW_MS + THREE_DAYS_MS),
        weight=st.just(1) | st.integers(1, WEIGHT_MAX),
        key=st.just("") | st.text(max_size=20),
    ),
    min_size=1,
    max_size=30,
)


def valid_message() -> HitBatchMessage:
    return HitBatchMessage(
        min_reader=1,
        id_rule=1,
        producer=PRODUCER,
        sequence=7,
        base_time_ms=NOW_MS,
        ids=["a", "b"],
        time_offsets_ms=[0, -5],
        weights=[1, 2],
        keys=["", "k"],
    )


def read_back(batch: HitBatch) -> list[Hit]:
    weights = batch.weights or [1] * len(batch)
    keys = batch.keys or [""] * len(batch)
    return [Hit(*hit) for hit in zip(batch.ids, batch.times_ms, weights, keys, strict=True)]


# ── there and back ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(hits, st.binary(min_size=PRODUCER_BYTES, max_size=PRODUCER_BYTES), st.integers(1, SEQUENCE_MAX))
def test_every_batch_of_hits_comes_back_as_it_went_in(hits: list[Hit], producer: bytes, sequence: int) -> None:
    batch = decode(encode(build_batch(producer, sequence, hits)))
    assert read_back(batch) == hits
    assert (batch.producer, batch.sequence, batch.id_rule) == (producer, sequence, ID_RULE)


@given(hits)
def test_same_batch_gives_the_same_bytes_again_so_that_a_retry_is_the_same_entry(hits: list[Hit]) -> None:
    payload = encode(build_batch(PRODUCER, 1, hits))
    assert encode(build_batch(PRODUCER, 1, hits)) == payload
    assert encode(decode(payload)) == payload


def test_batch_of_the_most_hits_with_the_longest_ids_comes_back() -> None:
    hits = [Hit(f"{position:05d}" + "x" * 507, NOW_MS + position) for position in range(BATCH_MAX_HITS)]
    assert read_back(decode(encode(build_batch(PRODUCER, 1, hits)))) == hits


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    batch = build_batch(PRODUCER, 1, [Hit("a", NOW_MS), Hit("b", NOW_MS)])
    assert (batch.weights, batch.keys) == (None, None)
    assert len(encode(batch)) < 50


def test_thousand_hits_on_short_ids_take_less_than_ten_bytes_each() -> None:
    hits = [Hit(f"{position:04d}", NOW_MS + position % 50) for position in range(1000)]
    assert len(encode(build_batch(PRODUCER, 1, hits))) < 10_000


# ── undecodable ─────────────────────────────────────────────────────────────────────────────────────────────────────


def no_hits(message: HitBatchMessage) -> None:
    for column in ("ids", "time_offsets_ms", "weights", "keys"):
        message.ClearField(column)


def too_many_hits(message: HitBatchMessage) -> None:
    no_hits(message)
    message.ids.extend(["a"] * (BATCH_MAX_HITS + 1))
    message.time_offsets_ms.extend([0] * (BATCH_MAX_HITS + 1))


def set_element(column: str, value: object) -> Callable[[HitBatchMessage], None]:
    def change(message: HitBatchMessage) -> None:
        getattr(message, column)[1] = value

    return change


def set_field(name: str, value: object) -> Callable[[HitBatchMessage], None]:
    return lambda message: setattr(message, name, value)


def shorten(column: str) -> Callable[[HitBatchMessage], None]:
    def change(message: HitBatchMessage) -> None:
        getattr(message, column).pop()

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param(no_hits, "holds 0 hits", id="no hits"),
        pytest.param(too_many_hits, "the limit is 10000", id="too many hits"),
        pytest.param(set_field("id_rule", 0), "no id rule", id="no id rule"),
        pytest.param(set_field("producer", b""), "producer", id="no producer"),
        pytest.param(set_field("producer", PRODUCER[:-1]), "producer", id="a short producer"),
        pytest.param(set_field("producer", PRODUCER + b"x"), "producer", id="a long producer"),
        pytest.param(set_field("sequence", 0), "sequence", id="no sequence"),
        pytest.param(set_field("sequence", SEQUENCE_MAX + 1), "sequence", id="a sequence of seven bytes"),
        pytest.param(shorten("ids"), "differ in length", id="fewer ids"),
        pytest.param(shorten("time_offsets_ms"), "differ in length", id="fewer times"),
        pytest.param(shorten("weights"), "differ in length", id="fewer weights"),
        pytest.param(shorten("keys"), "differ in length", id="fewer keys"),
        pytest.param(set_field("base_time_ms", 4), "time is out of range", id="a time before 1970"),
        pytest.param(set_field("base_time_ms", TIME_MAX_MS), "time is out of range", id="a time after 9999"),
        pytest.param(set_field("base_time_ms", -(2**63)), "time is out of range", id="the least of all times"),
        pytest.param(set_element("ids", ""), "id is empty", id="an empty id"),
        pytest.param(set_element("ids", "é" * 257), "too long", id="an id of 514 bytes"),
        pytest.param(set_element("keys", "k" * 129), "key is too long", id="a key of 129 bytes"),
        pytest.param(set_element("weights", 0), "weight", id="a weight of 0"),
        pytest.param(set_element("weights", WEIGHT_MAX + 1), "weight", id="a weight over a million"),
    ],
)
def test_batch_that_breaks_a_rule_is_undecodable(change: Callable[[HitBatchMessage], None], complaint: str) -> None:
    message = valid_message()
    assert decode(message.SerializeToString())
    change(message)
    with pytest.raises(UndecodableEntry, match=complaint):
        decode(message.SerializeToString())


def test_times_at_both_ends_of_their_range_are_decodable() -> None:
    message = valid_message()
    message.base_time_ms = 5
    assert decode(message.SerializeToString()).times_ms == [5, 0]
    message.base_time_ms = TIME_MAX_MS - 1
    assert decode(message.SerializeToString()).times_ms == [TIME_MAX_MS - 1, TIME_MAX_MS - 6]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00", id="a field of number 0"),
        pytest.param(b"hello, world", id="text"),
        pytest.param(b'{"id": "1"}', id="JSON"),
        pytest.param(b"\x32\x05abc", id="an id cut off"),
        pytest.param(b"\x32\x02\xff\xfe", id="an id that is no UTF-8"),
        pytest.param(b"\x32\x03\xed\xa0\x80", id="an id that is half of a surrogate pair"),
    ],
)
def test_bytes_that_are_no_batch_are_undecodable(payload: bytes) -> None:
    with pytest.raises(UndecodableEntry):
        decode(payload)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_undecodable_or_too_new(payload: bytes) -> None:
    with contextlib.suppress(UndecodableEntry, EntryTooNew):
        decode(payload)


@given(hits, st.data())
def test_damaged_batch_is_decoded_by_all_rules_or_refused(hits: list[Hit], data: st.DataObject) -> None:
    payload = bytearray(encode(build_batch(PRODUCER, 1, hits)))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(0, len(payload))) :]
    try:
        batch = decode(bytes(payload))
    except (UndecodableEntry, EntryTooNew):
        return
    for hit in read_back(batch):
        assert 1 <= len(hit.id.encode()) <= 512
        assert 0 <= hit.timestamp_ms < TIME_MAX_MS
        assert 1 <= hit.weight <= WEIGHT_MAX


# ── too new ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("field", ["min_reader", "id_rule"])
def test_batch_for_a_newer_reader_is_too_new_and_not_undecodable(field: str) -> None:
    message = valid_message()
    setattr(message, field, 2)
    with pytest.raises(EntryTooNew, match="2"):
        decode(message.SerializeToString())


@pytest.mark.parametrize("field", ["min_reader", "id_rule"])
def test_batch_for_a_reader_that_will_never_be_is_damaged(field: str) -> None:
    message = valid_message()
    setattr(message, field, VERSION_MAX)
    with pytest.raises(EntryTooNew):
        decode(message.SerializeToString())
    setattr(message, field, VERSION_MAX + 1)
    with pytest.raises(UndecodableEntry, match="needs a reader"):
        decode(message.SerializeToString())


def test_batch_for_a_newer_reader_is_checked_by_that_reader_alone() -> None:
    message = valid_message()
    no_hits(message)  # what we see of it may make no sense to us
    message.min_reader = READER_VERSION + 1
    with pytest.raises(EntryTooNew):
        decode(message.SerializeToString())


def test_batch_for_an_older_reader_is_read() -> None:
    message = valid_message()
    message.min_reader = 0
    assert read_back(decode(message.SerializeToString())) == [Hit("a", NOW_MS), Hit("b", NOW_MS - 5, 2, "k")]
