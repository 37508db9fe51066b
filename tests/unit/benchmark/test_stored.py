from collections import Counter
from datetime import datetime, timedelta

import orjson
import pytest
from hitcounter_benchmark.stored import build_past

NOW_MS = 1_800_000_000_000


def read(bodies: list[bytes]) -> list[dict[str, str]]:
    return [hit for body in bodies for hit in orjson.loads(body)]


def test_no_two_stored_hits_of_an_id_have_the_same_millisecond() -> None:
    times = [hit["timestamp"] for hit in read(list(build_past(["x"], 200_000, now_ms=NOW_MS)))]
    milliseconds = {int(datetime.fromisoformat(time).timestamp() * 1000) for time in times}
    assert len(milliseconds) == len(times) == 200_000


def test_stored_hits_fill_the_windows_without_leaving_the_longest() -> None:
    times = [hit["timestamp"] for hit in read(list(build_past(["x"], 50_000, now_ms=NOW_MS)))]
    ages = [
        timedelta(milliseconds=NOW_MS) - (datetime.fromisoformat(time) - datetime.fromtimestamp(0).astimezone())
        for time in times
    ]
    assert timedelta(hours=70) < ages[0] < timedelta(days=3)
    assert timedelta(0) < ages[-1] < timedelta(minutes=1)


@pytest.mark.parametrize("hits", [1, 4_999, 5_000, 12_345])
def test_hits_are_spread_evenly_over_the_ids(hits: int) -> None:
    ids = ["a", "b", "c"]
    counted = Counter(hit["id"] for hit in read(list(build_past(ids, hits, now_ms=NOW_MS))))
    assert counted.total() == hits
    assert max(counted.values()) - min(counted[name] for name in ids) <= 1


def test_a_batch_is_one_that_the_api_takes() -> None:
    for body in build_past(["an id of usual length"], 20_000, now_ms=NOW_MS):
        assert len(orjson.loads(body)) <= 10_000
        assert len(body) <= 1 << 20


def test_no_hits_are_no_batches() -> None:
    assert list(build_past(["x"], 0, now_ms=NOW_MS)) == []
