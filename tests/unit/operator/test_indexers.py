"""What the indexers' own pages tell, and how long pods take to start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hitcounter.metrics import create_registry
from hitcounter_indexer.metrics import create_metrics
from hitcounter_operator.indexers import StartWatch, read_counters
from hitcounter_operator.looks import IndexerCounters
from hitcounter_operator.objects import Pod
from prometheus_client.exposition import generate_latest

CREATED = datetime(2026, 11, 24, 8, tzinfo=UTC)


def pod(uid: str, *, ready_after: float | None = None) -> Pod:
    ready_at = None if ready_after is None else CREATED + timedelta(seconds=ready_after)
    return Pod(name=f"indexer-{uid}", uid=uid, address=None, created_at=CREATED, ready_at=ready_at)


def test_counters_are_read_from_what_an_indexer_really_shows() -> None:
    registry = create_registry("indexer")
    metrics = create_metrics(registry)
    metrics.settled_hits.labels("indexed").inc(70)
    metrics.settled_hits.labels("duplicate").inc(20)
    metrics.settled_hits.labels("dead").inc(10)
    metrics.busy_seconds.inc(1.5)
    metrics.retried_documents.labels("es_rejected_execution_exception").inc(3)
    assert read_counters(generate_latest(registry).decode()) == IndexerCounters(100, 1.5, 3)


def test_indexer_that_had_nothing_sent_back_yet_has_counted_none() -> None:
    registry = create_registry("indexer")
    create_metrics(registry)
    assert read_counters(generate_latest(registry).decode()) == IndexerCounters(0, 0, 0)


def test_page_of_something_else_tells_nothing() -> None:
    assert read_counters("# TYPE other counter\nother_total 3\n") is None


def test_text_that_is_none_is_an_error_of_its_own() -> None:
    with pytest.raises(ValueError, match="bad"):
        read_counters("hitcounter_busy_seconds_total bad\n")


def test_start_is_learnt_from_pods_that_were_seen_to_become_ready() -> None:
    watch = StartWatch()
    assert watch.look([pod("old", ready_after=3)]) == []
    assert watch.look([pod("old", ready_after=3), pod("new")]) == []
    assert watch.look([pod("old", ready_after=3), pod("new", ready_after=17)]) == [17]
    assert watch.look([pod("old", ready_after=3), pod("new", ready_after=17)]) == []


def test_pod_that_lost_its_readiness_and_got_it_back_teaches_nothing() -> None:
    watch = StartWatch()
    watch.look([pod("one", ready_after=3)])
    watch.look([pod("one")])
    assert watch.look([pod("one", ready_after=900)]) == []
