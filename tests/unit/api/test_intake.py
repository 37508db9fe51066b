"""Natural batching: what arrives while a batch is in flight is the next one, and all of it shares one answer."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import orjson
import pytest
from hitcounter.codec import SEQUENCE_MAX, build_batch, encode
from hitcounter.entries import Durability
from hitcounter.errors import DurabilityUnavailable, HitcounterError, Outcome, StreamUnavailable
from hitcounter.hits import BATCH_MAX_HITS, DOT_SEGMENTS, WEIGHT_MAX, Hit, read_hit
from hitcounter_api.intake import ENTRY_MAX_BYTES, Intake, IntakeFull, Intakes, _measure, classify
from hitcounter_api.listeners import open_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.api.fakes import FULL, NOW_MS, PRODUCER, REFUSED, UNKNOWN, FakeStream, build_intake, build_metrics


def hit(id_: str) -> Hit:
    return Hit(id_, NOW_MS)


def hits(number: int, name: str = "id") -> list[Hit]:
    return [hit(f"{name}-{place}") for place in range(number)]


def add(intake: Intake, one: Hit) -> asyncio.Future[HitcounterError | None]:
    """Queue one hit and return its answer to await."""
    answer, listener = open_answer()
    intake.add(one, listener)
    return answer


def told(error: HitcounterError | None) -> tuple[str, Outcome, str]:
    """Return what a refusal tells: its reason, its outcome, and its text."""
    assert error is not None
    return *classify(error), str(error)


# ── batching ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_single_hit_is_sent_at_once() -> None:
    stream = FakeStream()
    assert await add(build_intake(stream), hit("a")) is None
    assert stream.accepted_ids == [["a"]]


async def test_hits_that_arrive_during_a_flight_are_the_next_batch() -> None:
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]  # its result is not used
    intake = build_intake(stream)
    first = add(intake, hit("first"))
    await stream.attempted.wait()
    second, third = add(intake, hit("second")), add(intake, hit("third"))
    release.set()
    assert [await first, await second, await third] == [None, None, None]
    assert stream.accepted_ids == [["first"], ["second", "third"]]


async def test_batches_are_named_by_the_producer_and_a_sequence_from_one() -> None:
    stream = FakeStream()
    intake = build_intake(stream)
    for id_ in "abc":
        await add(intake, hit(id_))
    assert [(batch.producer, batch.sequence) for batch in stream.accepted] == [(PRODUCER, n) for n in (1, 2, 3)]
    assert SEQUENCE_MAX > 10**12


async def test_an_entry_holds_ten_thousand_hits_at_most() -> None:
    stream = FakeStream()
    intake = build_intake(stream)
    answers = [add(intake, one) for one in hits(BATCH_MAX_HITS + 1)]
    assert not any([await answer for answer in answers])
    assert [len(batch) for batch in stream.accepted] == [BATCH_MAX_HITS, 1]


async def test_hits_of_one_request_never_spread_over_two_entries() -> None:
    stream = FakeStream()
    intake = build_intake(stream)
    one = add(intake, hit("one"))
    many = intake.add_all(hits(BATCH_MAX_HITS))
    assert [await one, await many] == [None, None]
    assert [len(batch) for batch in stream.accepted] == [1, BATCH_MAX_HITS]


@settings(max_examples=30)  # each moves tens of thousands of hits
@given(st.lists(st.one_of(st.just(1), st.integers(1, BATCH_MAX_HITS)), min_size=1, max_size=6))
def test_every_hit_of_any_mix_of_requests_arrives_once_and_in_order(sizes: Sequence[int]) -> None:
    async def take_all() -> list[str]:
        stream = FakeStream()
        intake = build_intake(stream, limit=2 * BATCH_MAX_HITS * len(sizes))
        requests = [hits(size, f"request-{place}") for place, size in enumerate(sizes)]
        answers = [add(intake, request[0]) if len(request) == 1 else intake.add_all(request) for request in requests]
        assert not any([await answer for answer in answers])
        assert all(len(batch) <= BATCH_MAX_HITS for batch in stream.accepted)
        for request in requests:
            homes = [batch.sequence for batch in stream.accepted if request[0].id in batch.ids]
            assert len(homes) == 1
            assert set(stream.accepted[homes[0] - 1].ids) >= {one.id for one in request}
        return [id_ for ids in stream.accepted_ids for id_ in ids]

    expected = [f"request-{place}-{number}" for place, size in enumerate(sizes) for number in range(size)]
    assert asyncio.run(take_all()) == expected


# ── waiters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancelling_one_waiter_leaves_the_others_their_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]
    intake = build_intake(stream)

    async def request() -> HitcounterError | None:
        return await intake.add_all(hits(2))

    leaving, staying = asyncio.create_task(request()), asyncio.create_task(request())
    await stream.attempted.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    release.set()
    assert await staying is None
    assert capsys.readouterr().out == "", "nothing went wrong with the answer of the one that left"
    assert [len(batch) for batch in stream.accepted] == [4]


async def test_a_listener_that_fails_leaves_the_others_their_answer() -> None:
    intake = build_intake(FakeStream())

    def fail(_: HitcounterError | None) -> None:
        raise ValueError("a bug")

    intake.add(hit("a"), fail)
    assert await add(intake, hit("b")) is None
    await intake.drain()


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_doubtful_append_is_tried_again_with_the_same_batch() -> None:
    stream = FakeStream()
    stream.steps.append(UNKNOWN)
    assert await add(build_intake(stream), hit("a")) is None
    first, second = stream.attempts
    assert first is second


async def test_a_batch_stays_unknown_once_any_attempt_was() -> None:
    stream = FakeStream()
    stream.steps.append(UNKNOWN)
    stream.trouble = None
    intake = build_intake(stream)
    answer = add(intake, hit("a"))
    await stream.attempted.wait()
    stream.trouble = REFUSED
    assert told(await answer) == ("stream", Outcome.UNKNOWN, "Redis does not answer")


async def test_a_batch_that_was_never_taken_is_refused_when_the_budget_ends() -> None:
    stream = FakeStream(trouble=REFUSED)
    started = asyncio.get_running_loop().time()
    refusal = await add(build_intake(stream, budget_seconds=0.2), hit("a"))
    assert asyncio.get_running_loop().time() - started < 0.3
    assert told(refusal) == ("stream", Outcome.REFUSED, "Redis does not answer")
    assert len(stream.attempts) > 1


async def test_what_cannot_help_is_not_tried_again() -> None:
    stream = FakeStream(trouble=FULL)
    refusal = await add(build_intake(stream), hit("a"))
    assert told(refusal) == ("stream", Outcome.REFUSED, "Redis is full")
    assert isinstance(refusal, StreamUnavailable)
    assert refusal.retry_after_seconds == 5
    assert len(stream.attempts) == 1


async def test_what_queued_behind_a_failed_batch_is_refused_at_once_and_never_sent() -> None:
    stream = FakeStream(trouble=UNKNOWN)
    intake = build_intake(stream)
    failing = add(intake, hit("in flight"))
    await stream.attempted.wait()
    behind = add(intake, hit("behind"))
    assert told(await failing) == ("stream", Outcome.UNKNOWN, "the answer got lost")
    assert behind.done()
    assert told(await behind) == ("stream", Outcome.REFUSED, "the answer got lost")
    assert {tuple(batch.ids) for batch in stream.attempts} == {("in flight",)}


async def test_the_next_hit_after_a_failure_is_tried_afresh_under_a_new_sequence() -> None:
    stream = FakeStream(trouble=FULL)
    intake = build_intake(stream)
    assert await add(intake, hit("lost")) is not None
    stream.trouble = None
    assert await add(intake, hit("found")) is None
    assert [batch.sequence for batch in stream.accepted] == [2]


async def test_a_fault_of_our_own_answers_the_batch_and_spares_the_next() -> None:
    stream = FakeStream()
    stream.steps.append(ValueError("a bug"))
    intake = build_intake(stream)
    assert told(await add(intake, hit("a"))) == ("stream", Outcome.UNKNOWN, "the hits could not be handed over")
    assert await add(intake, hit("b")) is None


@pytest.mark.parametrize("broken", ["accepted_hits", "entry_hits", "track_seconds", "refused_hits"])
async def test_a_fault_while_a_batch_is_counted_leaves_nobody_without_an_answer(broken: str) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            raise ValueError("a bug")

    metrics, _ = build_metrics()
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]
    intake = Intake(stream, metrics, producer=PRODUCER, limit=20_000, budget_seconds=0.1)
    first = add(intake, hit("first"))
    await stream.attempted.wait()
    behind = [add(intake, one) for one in hits(BATCH_MAX_HITS)] + [add(intake, one) for one in hits(5)]
    intake._metrics = dataclasses.replace(metrics, **{broken: Broken()})  # type: ignore[arg-type]
    if broken == "refused_hits":
        stream.trouble = FULL
    release.set()
    async with asyncio.timeout(5):
        await asyncio.gather(first, *behind)
        await add(intake, hit("later"))
        await intake.drain()
    assert intake._waiting_hits == 0


async def test_a_batch_that_cannot_be_built_is_refused_since_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug")

    stream = FakeStream()
    monkeypatch.setattr("hitcounter_api.intake.build_batch", fail)
    refusal = await add(build_intake(stream), hit("a"))
    assert told(refusal) == ("stream", Outcome.REFUSED, "the hits could not be handed over")
    assert not stream.attempts


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_hits_beyond_the_limit_are_refused_at_once() -> None:
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]
    intake = build_intake(stream, limit=3)
    add(intake, hit("in flight"))
    await stream.attempted.wait()
    waiting = [add(intake, one) for one in hits(3)]
    for beyond in (add(intake, hit("beyond")), intake.add_all(hits(2))):
        assert beyond.done()
        assert told(await beyond) == ("full", Outcome.REFUSED, "the intake is full: 3 hits wait for Redis")
        assert isinstance(await beyond, IntakeFull)
    release.set()
    assert await waiting[0] is None
    assert await add(intake, hit("room again")) is None


async def test_single_hits_keep_a_quarter_of_the_room_that_batches_cannot_take() -> None:
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]
    intake = build_intake(stream, limit=20_000)
    answers = [add(intake, hit("in flight"))]
    await stream.attempted.wait()
    batches = [intake.add_all(hits(1000)) for _ in range(20)]
    assert [batch.done() for batch in batches] == [False] * 15 + [True] * 5
    answers += [add(intake, one) for one in hits(5000)]
    assert not any(answer.done() for answer in answers)
    assert add(intake, hit("beyond")).done()
    release.set()
    assert not any(await asyncio.gather(*answers, *batches[:15]))


@pytest.mark.parametrize("limit", [BATCH_MAX_HITS, BATCH_MAX_HITS + 1, 20_000])
async def test_the_largest_batch_fits_into_an_idle_intake_whatever_the_limit(limit: int) -> None:
    largest = [Hit(f"{number:0512d}", NOW_MS, 1, "k" * 128) for number in range(1600)]
    assert await build_intake(FakeStream(), limit=limit).add_all(largest) is None
    assert await build_intake(FakeStream(), limit=limit).add_all(hits(BATCH_MAX_HITS)) is None


async def test_an_entry_of_many_requests_holds_a_mebibyte_at_most() -> None:
    stream = FakeStream()
    intake = build_intake(stream)
    answers = [add(intake, Hit(f"{number:0509d}€", NOW_MS, 1_000_000, "k" * 128)) for number in range(5000)]
    assert not any(await asyncio.gather(*answers))
    sizes = [len(encode(batch)) for batch in stream.accepted]
    assert len(sizes) > 1
    assert max(sizes) <= ENTRY_MAX_BYTES + _HEAD_BYTES
    assert min(sizes[:-1]) > 0.9 * ENTRY_MAX_BYTES, "the bound is near to what it bounds"


async def test_batches_share_an_entry_up_to_a_mebibyte() -> None:
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]
    intake = build_intake(stream)
    answers = [add(intake, hit("in flight"))]
    await stream.attempted.wait()
    answers += [intake.add_all([Hit(f"{number:0200d}", NOW_MS) for number in range(2000)]) for _ in range(5)]
    release.set()
    assert not any(await asyncio.gather(*answers))
    assert [len(batch) for batch in stream.accepted] == [1, 4000, 4000, 2000]


_HEAD_BYTES = 128
"""What an entry takes besides its hits."""
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=120).filter(
    lambda text: text not in DOT_SEGMENTS
)
_TIMES = st.sampled_from(["2026-11-21T08:00:00Z", "2026-11-24T08:05:00Z", "2026-11-24T07:00:00.123Z"])
_HITS = st.lists(
    st.fixed_dictionaries(
        {"id": _TEXT},
        optional={"weight": st.integers(1, WEIGHT_MAX), "timestamp": _TIMES},
    )
    | st.fixed_dictionaries({"id": _TEXT, "timestamp": _TIMES, "key": st.text("k", min_size=1, max_size=128)}),
    min_size=1,
    max_size=50,
)


@given(_HITS, st.sampled_from([b"\n", b","]), st.integers(1, 200))
def test_an_entry_is_no_larger_than_the_body_of_the_only_request_in_it(
    found: list[dict[str, object]], separator: bytes, times: int
) -> None:
    body = separator.join([orjson.dumps(fields) for fields in found * times])
    if separator == b",":
        body = b"[" + body + b"]"
    for part in read_slices(body):
        entry = encode(build_batch(PRODUCER, SEQUENCE_MAX, part))
        assert len(entry) <= len(body) + _HEAD_BYTES
        assert len(entry) <= _measure(part) + _HEAD_BYTES


def read_slices(body: bytes) -> list[list[Hit]]:
    """Return the hits of the body, as one request has them."""
    found = orjson.loads(body) if body.startswith(b"[") else [orjson.loads(line) for line in body.split(b"\n")]
    return [[read_hit(fields, NOW_MS) for fields in found]]


def test_the_smallest_hits_that_json_can_write_take_no_more_in_an_entry() -> None:
    # A first hit of three days ago gives each of the others the longest time, one weight and one key a column each.
    fields = [
        b'{"id":"a","timestamp":"2026-11-21T08:00:00Z","weight":2}',
        b'{"id":"a","timestamp":"2026-11-24T08:00:00Z","key":"k"}',
        *[b'{"id":"a"}'] * (BATCH_MAX_HITS - 2),
    ]
    body = b"\n".join(fields)
    (found,) = read_slices(body)
    assert len(encode(build_batch(PRODUCER, SEQUENCE_MAX, found))) <= len(body) + _HEAD_BYTES


async def test_room_is_free_again_after_a_failure() -> None:
    stream = FakeStream(trouble=FULL)
    intake = build_intake(stream, limit=2)
    for _ in range(5):
        answers = [add(intake, one) for one in hits(2)]
        assert {told(await one)[0] for one in answers} == {"stream"}


# ── draining ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_draining_waits_until_all_hits_have_their_answer() -> None:
    release = asyncio.Event()
    stream = FakeStream()
    stream.steps.append(release.wait())  # type: ignore[arg-type]
    intake = build_intake(stream)
    first = add(intake, hit("first"))
    await stream.attempted.wait()
    second = add(intake, hit("second"))
    draining = asyncio.create_task(intake.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    release.set()
    await draining
    assert first.done()
    assert second.done()
    assert stream.accepted_ids == [["first"], ["second"]]


async def test_draining_an_idle_intake_returns() -> None:
    await build_intake(FakeStream()).drain()


# ── metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_durability_has_an_intake_of_its_own() -> None:
    stream = FakeStream()
    metrics, _ = build_metrics()
    both = {
        durability: Intake(stream, metrics, producer=PRODUCER, limit=9, budget_seconds=0.1, durability=durability)
        for durability in Durability
    }
    intakes = Intakes(both, Durability.DISK)
    assert intakes.choose(None) is both[Durability.DISK]
    for durability in Durability:
        assert await add(intakes.choose(durability), hit("a")) is None
    assert stream.durabilities == [Durability.MEMORY, Durability.DISK]
    await intakes.drain()


async def test_a_durability_that_redis_lacks_is_refused_at_once() -> None:
    stream = FakeStream()
    stream.trouble = DurabilityUnavailable("no WAITAOF")
    assert told(await add(build_intake(stream), hit("a"))) == ("durability", Outcome.REFUSED, "no WAITAOF")
    assert len(stream.attempts) == 1


async def test_a_durability_that_is_lost_after_a_doubtful_attempt_leaves_the_outcome_unknown() -> None:
    stream = FakeStream()
    stream.steps += [UNKNOWN, DurabilityUnavailable("no WAITAOF")]
    assert told(await add(build_intake(stream), hit("a"))) == ("stream", Outcome.UNKNOWN, "no WAITAOF")


async def test_hits_are_counted_by_how_they_were_answered() -> None:
    stream = FakeStream()
    metrics, registry = build_metrics()
    intake = Intake(stream, metrics, producer=PRODUCER, limit=100, budget_seconds=0.1)
    await intake.add_all(hits(7))
    stream.trouble = FULL
    await intake.add_all(hits(5))
    await intake.add_all(hits(101))

    def refused(reason: str) -> float | None:
        return registry.get_sample_value("hitcounter_refused_hits_total", {"reason": reason, "outcome": "refused"})

    assert registry.get_sample_value("hitcounter_accepted_hits_total") == 7
    assert refused("stream") == 5
    assert refused("full") == 101
    assert registry.get_sample_value("hitcounter_entry_hits_sum") == 7
    assert registry.get_sample_value("hitcounter_append_duration_seconds_count") == 2
    assert registry.get_sample_value("hitcounter_waiting_hits", {"durability": "memory"}) == 0
