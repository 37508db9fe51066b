"""Several workers' metrics as one exposition."""

from __future__ import annotations

from hitcounter_api.workers import merge_metrics
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families


def render(hits: int) -> str:
    registry = CollectorRegistry()
    Info("build", "What runs.", registry=registry).info({"version": "1"})
    Counter("hits", "Hits.", ["reason"], registry=registry).labels('a "quoted" reason').inc(hits)
    Gauge("waiting", "Hits that wait.", registry=registry).set(hits / 2)
    Histogram("seconds", "Time.", buckets=(1, 2), registry=registry).observe(hits)
    return generate_latest(registry).decode()


def test_every_series_is_there_once_for_each_worker_under_one_head() -> None:
    merged = merge_metrics({"0": render(1), "3": render(5)}).decode()
    for line in ("# HELP hits_total Hits.", "# TYPE hits_total counter", "# TYPE seconds histogram"):
        assert merged.splitlines().count(line) == 1
    assert r'hits_total{reason="a \"quoted\" reason",worker="3"} 5.0' in merged
    assert 'waiting{worker="0"} 0.5' in merged
    assert 'seconds_bucket{le="2.0",worker="0"} 1.0' in merged
    assert 'seconds_bucket{le="2.0",worker="3"} 0.0' in merged


def test_nothing_but_the_worker_is_added() -> None:
    def samples(text: str) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
        return {
            (
                sample.name,
                tuple(sorted((name, value) for name, value in sample.labels.items() if name != "worker")),
                sample.value,
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    text = render(4)  # once: it says when it was made
    assert samples(merge_metrics({"7": text}).decode()) == samples(text)


def test_no_worker_is_no_series() -> None:
    assert merge_metrics({}) == b""
