from collections import Counter

import orjson
import pytest
from hitcounter_benchmark.mix import build_mix, name_ids
from hitcounter_benchmark.target import Target, counts_path, parse_target

TARGET = Target("127.0.0.1", 8001)


def test_one_id_keeps_its_name_and_several_are_numbered() -> None:
    assert name_ids("a/b", 1) == ["a/b"]
    assert name_ids("a/b", 3) == ["a/b-0", "a/b-1", "a/b-2"]


def test_a_request_is_one_hit_in_plain_http() -> None:
    mix = build_mix(TARGET, ["é"], skew="uniform", batch=None, seed=1)
    head, body = mix.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /analytics HTTP/1.1\r\nHost: 127.0.0.1:8001\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert orjson.loads(body) == {"id": "é"}


def test_uniform_draws_every_id_about_as_often() -> None:
    mix = build_mix(TARGET, name_ids("x", 100), skew="uniform", batch=None, seed=1)
    drawn = Counter(mix.order)
    assert min(drawn.values()) > 0.8 * len(mix.order) / 100
    assert max(drawn.values()) < 1.2 * len(mix.order) / 100


def test_zipf_draws_the_second_id_half_as_often_as_the_first() -> None:
    mix = build_mix(TARGET, name_ids("x", 100), skew="zipf", batch=None, seed=1)
    drawn = Counter(mix.order)
    assert drawn[1] / drawn[0] == pytest.approx(1 / 2, rel=0.05)
    assert drawn[9] / drawn[0] == pytest.approx(1 / 10, rel=0.1)


def test_the_same_seed_gives_the_same_mix() -> None:
    ids = name_ids("x", 50)
    first, again, other = (build_mix(TARGET, ids, skew="zipf", batch=None, seed=seed) for seed in (1, 1, 2))
    assert first.order == again.order != other.order


def test_a_batch_request_knows_the_hits_that_it_carries() -> None:
    mix = build_mix(TARGET, name_ids("x", 5), skew="uniform", batch=1000, seed=1)
    head, body = mix.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /analytics/batch ")
    assert Counter(hit["id"] for hit in orjson.loads(body)) == mix.hits[0]
    assert sum(mix.hits[0].values()) == mix.hits_per_request == 1000


def test_ids_are_percent_encoded_in_the_path_of_their_counts() -> None:
    assert counts_path("a/b c?é") == "/analytics/a%2Fb%20c%3F%C3%A9"
    assert counts_path("batch") == "/analytics/batch"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8001", "http://localhost:1", "http://[::1]:8001/", "http://127.9.9.9"]
)
def test_this_machine_is_a_target(url: str) -> None:
    target = parse_target(url)
    assert url.startswith(target.url.removesuffix(":80"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "http://10.0.0.1:8001",
        "http://0.0.0.0:8001",
        "http://127.0.0.1.example.org",
        "http://[2001:db8::1]",
    ],
)
def test_another_machine_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="is not this machine: load is only sent to"):
        parse_target(url)


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "https://127.0.0.1", "http://127.0.0.1/other", "http://"])
def test_anything_but_plain_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        parse_target(url)
