"""Writes the dashboards for Grafana: charts/hitcounter/dashboards/*.json.

    .venv/bin/python tools/dashboards.py [FOLDER]

A dashboard is rows of panels, a panel is what it shows and why one looks at it; all that Grafana wants beyond that is
the same for each and stands once, in `render`. A test fails while the files say anything else than this.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "charts/hitcounter/dashboards"
RUNBOOK: Final = "docs/runbook.md"
"""Where panels point; the chart puts your own address in its place."""

S: Final = 'namespace=~"$namespace",release=~"$release"'
"""Picks the series of what is chosen at the top of a dashboard."""
SCALER: Final = 'namespace=~"$namespace",horizontalpodautoscaler=~".*-indexer"'
INDEXERS: Final = f'count(hitcounter_build_info{{{S},service="indexer"}})'
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One line, or one group of lines, of a panel."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        description: why one looks at it, and what is right.
        unit: in Grafana's words (s, percentunit, bytes, short, ...).
        queries: what is drawn.
        width: of 24 columns.
        limits: where it turns yellow and red; `falling` if less is worse.
        alerts: the alerts that are about this; the panel links to their headings in the runbook.
        is_stat: one number in place of a course.
        is_stacked: lines lie upon each other.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    limits: Sequence[float] = ()
    falling: bool = False
    alerts: Sequence[str] = ()
    is_stat: bool = False
    is_stacked: bool = False

    @property
    def height(self) -> int:
        """In Grafana's lines."""
        return 4 if self.is_stat else 8


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its file is named after its uid."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]


# ── expressions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def rate(metric: str, by: str = "", more: str = "", window: str = "$__rate_interval") -> str:
    """Return the rate of a counter, summed; `more` selects further."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{S}{more}}}[{window}]))"


def share(part: str, whole: str) -> str:
    """Return a ratio, and nothing where there is nothing to divide."""
    return f"{part} / ({whole} > 0)"


def quantiles(metric: str) -> list[Query]:
    """Return the lines of a histogram of durations."""
    buckets = f"sum by (le) (rate({metric}_bucket{{{S}}}[$__rate_interval]))"
    return [Query(f"histogram_quantile({q}, {buckets})", f"p{int(q * 100)}") for q in (0.5, 0.9, 0.99)]


def mean(metric: str) -> str:
    """Return the mean of a histogram."""
    return share(rate(f"{metric}_sum"), rate(f"{metric}_count"))


def largest(metric: str, more: str = "") -> str:
    """Return a gauge that all processes show alike."""
    return f"max({metric}{{{S}{more}}})"


ACCEPTED: Final = rate("hitcounter_accepted_hits_total")
SETTLED: Final = rate("hitcounter_settled_hits_total")
REFUSED: Final = ',reason!="durability"'
BACKLOG: Final = largest("hitcounter_backlog_hits")
RATE_OF_ONE: Final = share(
    rate("hitcounter_settled_hits_total", window="5m"), rate("hitcounter_busy_seconds_total", window="5m")
)
"""Hits that one indexer settles in a busy second: μ."""


def term(name: str, computed: str) -> str:
    """Return one term of the decision, in indexers: as the formula says it; an operator tells its own."""
    return f'label_replace({computed}, "term", "{name}", "", "")'


# ── dashboards ───────────────────────────────────────────────────────────────────────────────────────────────────────

OVERVIEW = Dashboard(
    "hitcounter-overview",
    "Hit counter: overview",
    "Is it well? The objectives, the ledger, how fresh counts are, what arrives, what waits, and who works.",
    [
        Row(
            "Is it well?",
            [
                Panel(
                    "Alerts firing",
                    "Alerts of the hit counter, of every release. Each has a heading in the runbook.",
                    "short",
                    [Query('count(ALERTS{alertname=~"Hitcounter.+",alertstate="firing"}) or vector(0)', "alerts")],
                    width=4,
                    limits=(1, 2),
                    is_stat=True,
                ),
                Panel(
                    "Acknowledged, last hour",
                    "Share of hits that were acknowledged. The objective is 99.9 % over 30 days.",
                    "percentunit",
                    [
                        Query(
                            "1 - "
                            + share(
                                rate("hitcounter_refused_hits_total", more=REFUSED, window="1h"),
                                f"({rate('hitcounter_accepted_hits_total', window='1h')}"
                                f" + {rate('hitcounter_refused_hits_total', more=REFUSED, window='1h')})",
                            ),
                            "acknowledged",
                        )
                    ],
                    width=4,
                    limits=(0.999, 0.9856),
                    falling=True,
                    alerts=["HitcounterAcceptBudgetFastBurn", "HitcounterAcceptBudgetSlowBurn"],
                    is_stat=True,
                ),
                Panel(
                    "Countable within 30 s, last hour",
                    "Share of hits that reads counted within 30 seconds. The objective is 99 % over 30 days.",
                    "percentunit",
                    [
                        Query(
                            share(
                                rate("hitcounter_freshness_hits_total", more=',result="fresh"', window="1h"),
                                rate("hitcounter_freshness_hits_total", window="1h"),
                            ),
                            "countable",
                        )
                    ],
                    width=4,
                    limits=(0.99, 0.856),
                    falling=True,
                    alerts=["HitcounterFreshnessBudgetFastBurn", "HitcounterFreshnessBudgetSlowBurn"],
                    is_stat=True,
                ),
                Panel(
                    "Ledger difference",
                    "Hits in the stream beyond what the ledger explains. Must be 0.",
                    "short",
                    [Query(f"max(abs(hitcounter_ledger_difference_hits{{{S}}}))", "hits")],
                    width=4,
                    limits=(1, 1),
                    alerts=["HitcounterLedgerDiffers"],
                    is_stat=True,
                ),
                Panel(
                    "APIs and indexers",
                    "Processes that Prometheus sees.",
                    "short",
                    [Query(f"count by (service) (hitcounter_build_info{{{S}}})", "{{service}}")],
                    width=4,
                    alerts=["HitcounterBlind"],
                    is_stat=True,
                ),
                Panel(
                    "Redis full",
                    "Share of the memory that Redis may use. A full Redis refuses hits.",
                    "percentunit",
                    [
                        Query(
                            f"{largest('hitcounter_redis_memory_bytes')} / "
                            f"{largest('hitcounter_redis_capacity_bytes')}",
                            "used",
                        )
                    ],
                    width=4,
                    limits=(0.5, 0.9),
                    alerts=["HitcounterRedisNearlyFull"],
                    is_stat=True,
                ),
            ],
        ),
        Row(
            "Hits",
            [
                Panel(
                    "Hits accepted and settled",
                    "Settled follows accepted; where it does not, the backlog grows.",
                    "short",
                    [
                        Query(ACCEPTED, "accepted per second"),
                        Query(SETTLED, "settled per second"),
                        Query(rate("hitcounter_refused_hits_total"), "refused per second"),
                    ],
                    alerts=["HitcounterIndexingStandsStill"],
                ),
                Panel(
                    "Backlog",
                    "Hits accepted and not yet settled. About a second of arrivals is usual.",
                    "short",
                    [Query(BACKLOG, "hits")],
                    alerts=["HitcounterBacklogWillNotDrain"],
                ),
                Panel(
                    "Freshness",
                    "Age of the oldest hit that is not countable yet, and of the oldest unsettled entry.",
                    "s",
                    [
                        Query(largest("hitcounter_freshness_lag_seconds"), "not countable yet"),
                        Query(largest("hitcounter_oldest_age_seconds"), "not settled yet"),
                    ],
                    limits=(3, 30),
                    alerts=["HitcounterOldestEntryStuck"],
                ),
                Panel(
                    "Ledger",
                    "Hits by what became of them, over all time: accepted = indexed + duplicate + dead + backlog.",
                    "short",
                    [
                        Query(f"max by (state) (hitcounter_ledger_hits{{{S}}})", "{{state}}"),
                        Query(BACKLOG, "backlog"),
                    ],
                    width=16,
                    alerts=["HitcounterDeadLetters"],
                ),
                Panel(
                    "Versions",
                    "Processes by service and version. Two versions for long are a rollout that hangs.",
                    "short",
                    [Query(f"count by (service, version) (hitcounter_build_info{{{S}}})", "{{service}} {{version}}")],
                    is_stacked=True,
                ),
            ],
        ),
    ],
)

PATH = Dashboard(
    "hitcounter-path",
    "Hit counter: path of a hit",
    "Rate, errors and duration of each stage, in the order in which a hit meets them.",
    [
        Row(
            "Track: from the client to the answer",
            [
                Panel(
                    "Track: hits",
                    "What clients send, by what they are told.",
                    "short",
                    [
                        Query(ACCEPTED, "accepted per second"),
                        Query(rate("hitcounter_refused_hits_total", "reason"), "refused per second: {{reason}}"),
                    ],
                    is_stacked=True,
                ),
                Panel(
                    "Track: errors",
                    "Share of hits that were not acknowledged (the objective is below 0.1 %), and requests that their "
                    "sender must change.",
                    "percentunit",
                    [
                        Query(
                            share(
                                rate("hitcounter_refused_hits_total", more=REFUSED),
                                f"({ACCEPTED} + {rate('hitcounter_refused_hits_total', more=REFUSED)})",
                            ),
                            "refused",
                        ),
                        Query(
                            share(
                                f"({rate('hitcounter_invalid_requests_total')} or vector(0))",
                                f"({ACCEPTED} + ({rate('hitcounter_invalid_requests_total')} or vector(0)))",
                            ),
                            "invalid",
                        ),
                    ],
                    limits=(0.001, 0.0144),
                    alerts=["HitcounterAcceptBudgetFastBurn", "HitcounterAcceptBudgetSlowBurn"],
                ),
                Panel(
                    "Track: duration",
                    "The longest wait of each batch. p90 is to be below 100 ms.",
                    "s",
                    quantiles("hitcounter_track_duration_seconds"),
                    limits=(0.1, 0.5),
                ),
            ],
        ),
        Row(
            "Connections of clients",
            [
                Panel(
                    "Connections: open",
                    "Connections of clients to each API. At HITCOUNTER_HTTP__MAX_CONNECTIONS more are refused.",
                    "short",
                    [Query(f"max(hitcounter_open_connections{{{S}}})", "most open at one API")],
                ),
                Panel(
                    "Connections: refused, and bugs",
                    "Connections that were one too many, and requests that met a bug of the API (500).",
                    "short",
                    [
                        Query(rate("hitcounter_refused_connections_total"), "refused per second"),
                        Query(rate("hitcounter_internal_errors_total"), "bugs per second"),
                    ],
                ),
            ],
        ),
        Row(
            "Append: from the API to Redis",
            [
                Panel(
                    "Append: batches",
                    "Entries added to the stream, and the hits in one.",
                    "short",
                    [
                        Query(rate("hitcounter_append_duration_seconds_count"), "entries per second"),
                        Query(mean("hitcounter_entry_hits"), "hits in an entry"),
                        Query(f"sum(hitcounter_waiting_hits{{{S}}})", "hits that wait"),
                    ],
                ),
                Panel(
                    "Append: errors",
                    "Failed attempts; most are tried again within the same request.",
                    "short",
                    [Query(rate("hitcounter_append_failures_total"), "failures per second")],
                    limits=(0.1, 1),
                ),
                Panel(
                    "Append: duration",
                    "Until a batch was in Redis, retries included.",
                    "s",
                    quantiles("hitcounter_append_duration_seconds"),
                    limits=(0.05, 0.5),
                ),
            ],
        ),
        Row(
            "Index: from the stream to Elasticsearch",
            [
                Panel(
                    "Index: documents",
                    "Documents by what Elasticsearch said of them, and how many there are in one bulk.",
                    "short",
                    [
                        Query(rate("hitcounter_bulk_items_total", "outcome"), "{{outcome}} per second"),
                        Query(mean("hitcounter_bulk_documents"), "documents in a bulk"),
                    ],
                    alerts=["HitcounterDeadLetters"],
                ),
                Panel(
                    "Index: errors",
                    "Failed calls by server, and entries that were not read the usual way: reclaimed from the silent, "
                    "left to newer indexers, or failed.",
                    "short",
                    [
                        Query(rate("hitcounter_failures_total", "where"), "failures per second: {{where}}"),
                        Query(
                            rate("hitcounter_entries_total", "origin", ',origin!="read"'),
                            "entries per second: {{origin}}",
                        ),
                    ],
                    limits=(0.1, 1),
                    alerts=["HitcounterOldestEntryStuck", "HitcounterIndexingStandsStill"],
                ),
                Panel(
                    "Index: duration",
                    "Of one bulk request.",
                    "s",
                    quantiles("hitcounter_bulk_duration_seconds"),
                    limits=(1, 5),
                ),
            ],
        ),
        Row(
            "Settle: back to Redis",
            [
                Panel(
                    "Settle: hits",
                    "Hits by how they ended.",
                    "short",
                    [Query(rate("hitcounter_settled_hits_total", "result"), "{{result}} per second")],
                    is_stacked=True,
                ),
                Panel(
                    "Settle: errors",
                    "Hits that became dead letters, and failed calls to Redis.",
                    "short",
                    [
                        Query(rate("hitcounter_settled_hits_total", more=',result="dead"'), "dead letters per second"),
                        Query(rate("hitcounter_failures_total", more=',where="redis"'), "failures per second"),
                    ],
                    limits=(0.01, 1),
                    alerts=["HitcounterDeadLetters"],
                ),
                Panel(
                    "Settle: duration",
                    "Until the entries of one bulk were settled, retries included.",
                    "s",
                    quantiles("hitcounter_settle_duration_seconds"),
                    limits=(0.1, 1),
                ),
            ],
        ),
        Row(
            "Countable: from accepted to read",
            [
                Panel(
                    "Countable: hits",
                    "Hits by whether they were countable within 30 seconds, in the eyes of one API.",
                    "short",
                    [
                        Query(
                            f"max by (result) (rate(hitcounter_freshness_hits_total{{{S}}}[$__rate_interval]))",
                            "{{result}} per second",
                        )
                    ],
                    is_stacked=True,
                ),
                Panel(
                    "Countable: errors",
                    "Share of hits that were not countable within 30 seconds. The objective is below 1 %.",
                    "percentunit",
                    [
                        Query(
                            share(
                                rate("hitcounter_freshness_hits_total", more=',result="late"'),
                                rate("hitcounter_freshness_hits_total"),
                            ),
                            "late",
                        )
                    ],
                    limits=(0.01, 0.144),
                    alerts=["HitcounterFreshnessBudgetFastBurn", "HitcounterFreshnessBudgetSlowBurn"],
                ),
                Panel(
                    "Countable: duration",
                    "From accepted to countable, to about a second.",
                    "s",
                    quantiles("hitcounter_freshness_seconds"),
                    limits=(3, 30),
                ),
            ],
        ),
        Row(
            "Read",
            [
                Panel(
                    "Read: reads",
                    "Reads of counts, by what was answered.",
                    "short",
                    [Query(rate("hitcounter_reads_total", "result"), "{{result}} per second")],
                    is_stacked=True,
                ),
                Panel(
                    "Read: errors",
                    "Share of reads that got the last known counts, or none.",
                    "percentunit",
                    [
                        Query(
                            share(
                                rate("hitcounter_reads_total", more=',result!="fresh"'), rate("hitcounter_reads_total")
                            ),
                            "not fresh",
                        )
                    ],
                    limits=(0.01, 0.05),
                    alerts=["HitcounterReadsNotFresh"],
                ),
                Panel(
                    "Read: duration",
                    "Of one read of an id's counts.",
                    "s",
                    quantiles("hitcounter_read_duration_seconds"),
                    limits=(0.5, 2.5),
                ),
            ],
        ),
    ],
)

AUTOSCALING = Dashboard(
    "hitcounter-autoscaling",
    "Hit counter: autoscaling",
    "How many indexers are wanted, how many there are, and the terms of the decision. The parameters of the formula "
    "are at the top: set them to those of your values.",
    [
        Row(
            "Decision",
            [
                Panel(
                    "Indexers",
                    "Wanted by the operator, else by the HorizontalPodAutoscaler (KEDA's included), else as many as "
                    "there are; and those that Prometheus sees.",
                    "short",
                    [
                        Query(
                            f"{largest('hitcounter_operator_desired_replicas')} or "
                            f"max(kube_horizontalpodautoscaler_status_desired_replicas{{{SCALER}}}) or {INDEXERS}",
                            "wanted",
                        ),
                        Query(INDEXERS, "there"),
                        Query(
                            f"max(kube_horizontalpodautoscaler_spec_max_replicas{{{SCALER}}}) or {INDEXERS}",
                            "at most (or there, without a scaler)",
                        ),
                    ],
                    width=12,
                    alerts=["HitcounterScalingAtMax", "HitcounterScalingBlind"],
                ),
                Panel(
                    "Terms of the decision",
                    "In indexers: to keep up with arrivals, to be rid of the backlog, and for what piles up while an "
                    "indexer starts. The operator tells its own; otherwise they are computed here from the parameters "
                    "at the top.",
                    "short",
                    [
                        Query(
                            f"max by (term) (hitcounter_operator_scaling_term_replicas{{{S}}}) or "
                            + term("arrivals", f"{ACCEPTED} / $utilization / ({RATE_OF_ONE} > 0)"),
                            "{{term}}",
                        ),
                        Query(
                            term("backlog", f"{BACKLOG} / $drain_seconds / ({RATE_OF_ONE} > 0)"), "{{term}} (computed)"
                        ),
                        Query(
                            term("start", f"{ACCEPTED} * $start_seconds / $drain_seconds / ({RATE_OF_ONE} > 0)"),
                            "{{term}} (computed)",
                        ),
                    ],
                    width=12,
                    is_stacked=True,
                ),
            ],
        ),
        Row(
            "What it is made from",
            [
                Panel(
                    "Arrivals and what is settled",
                    "The first is what the formula goes by.",
                    "short",
                    [Query(ACCEPTED, "accepted per second"), Query(SETTLED, "settled per second")],
                    alerts=["HitcounterBacklogWillNotDrain"],
                ),
                Panel(
                    "Backlog",
                    "Hits that wait, and the seconds that they would take at the present rate.",
                    "short",
                    [Query(BACKLOG, "hits"), Query(f"{BACKLOG} / ({SETTLED} > 0)", "seconds")],
                ),
                Panel(
                    "Hits in a busy second",
                    "What one indexer can do: measured while it is busy, so idling does not lower it; and what the "
                    "operator, where there is one, has learnt it to be.",
                    "short",
                    [
                        Query(RATE_OF_ONE, "hits"),
                        Query(largest("hitcounter_operator_indexer_hits_per_busy_second"), "hits, by the operator"),
                    ],
                ),
                Panel(
                    "Busy",
                    "Share of its time that each indexer has a bulk under way. The formula aims at the parameter at "
                    "the top.",
                    "percentunit",
                    [Query(rate("hitcounter_busy_seconds_total", "instance"), "{{instance}}")],
                    limits=(0.8, 0.95),
                ),
                Panel(
                    "Push-back",
                    "Documents sent back for each that was settled. Above 1 % the number of indexers is held: more "
                    "would only push harder.",
                    "percentunit",
                    [
                        Query(
                            share(f"({rate('hitcounter_retried_documents_total')} or vector(0))", SETTLED),
                            "sent back",
                        )
                    ],
                    limits=(0.01, 0.1),
                ),
                Panel(
                    "Age of the oldest entry",
                    "What scaling is to keep small.",
                    "s",
                    [Query(largest("hitcounter_oldest_age_seconds"), "age")],
                    limits=(30, 60),
                    alerts=["HitcounterScalingAtMax"],
                ),
            ],
        ),
        Row(
            "The operator, where there is one",
            [
                Panel(
                    "Turns",
                    "Looks and decisions per second, by how they ended. Waited: another operator has the lease.",
                    "short",
                    [Query(rate("hitcounter_operator_turns_total", "result"), "{{result}}")],
                    alerts=["HitcounterOperatorStandsStill"],
                ),
                Panel(
                    "Duration of a turn",
                    "Looking, deciding, scaling and telling. It should be far below the time between two turns.",
                    "s",
                    quantiles("hitcounter_operator_turn_duration_seconds"),
                    limits=(1, 5),
                ),
                Panel(
                    "Start of an indexer",
                    "From the creation of a pod until it is ready, as the operator has learnt it. On a spike most of "
                    "the wait is this.",
                    "s",
                    [Query(largest("hitcounter_operator_indexer_start_seconds"), "start")],
                    limits=(30, 60),
                ),
                Panel(
                    "Conditions",
                    "Those of the HitCounter: 1 where it is so, 0 where it is not or unknown. `kubectl describe "
                    "hitcounter` says why.",
                    "short",
                    [Query(f"max by (type) (hitcounter_operator_condition{{{S}}})", "{{type}}")],
                    width=12,
                ),
                Panel(
                    "What it told",
                    "Events and lines of its log, by reason, of the last five minutes.",
                    "short",
                    [
                        Query(
                            f"sum by (reason) (increase(hitcounter_operator_notes_total{{{S}}}[5m])) > 0",
                            "{{reason}}",
                        )
                    ],
                    width=12,
                ),
            ],
        ),
    ],
)

STORES = Dashboard(
    "hitcounter-stores",
    "Hit counter: stores",
    "Redis and Elasticsearch as the hit counter meets them, and what its own processes use.",
    [
        Row(
            "Redis",
            [
                Panel(
                    "Memory",
                    "What Redis uses and may use. Full, it refuses hits and keeps what it has.",
                    "bytes",
                    [
                        Query(largest("hitcounter_redis_memory_bytes"), "used"),
                        Query(largest("hitcounter_redis_capacity_bytes"), "capacity"),
                    ],
                    alerts=["HitcounterRedisNearlyFull"],
                ),
                Panel(
                    "Redis's settings",
                    "1 for a maxmemory-policy that may evict hits (every hit is refused), 1 for an append-only file "
                    "(nothing is lost when Redis ends), and the keys that it has evicted.",
                    "short",
                    [
                        Query(largest("hitcounter_redis_may_evict"), "may evict"),
                        Query(f"min(hitcounter_redis_aof_enabled{{{S}}})", "append-only file"),
                        Query(largest("hitcounter_redis_evicted_keys_total"), "evicted keys"),
                    ],
                    alerts=["HitcounterRedisMayEvict", "HitcounterRedisEvicted", "HitcounterRedisNotPersistent"],
                ),
                Panel(
                    "Entries",
                    "In the stream: queued, or in flight at an indexer.",
                    "short",
                    [Query(f"max by (state) (hitcounter_backlog_entries{{{S}}})", "{{state}}")],
                    is_stacked=True,
                ),
                Panel(
                    "Writes: p99",
                    "Of an append and of a settlement. Both are one script.",
                    "s",
                    [
                        quantiles("hitcounter_append_duration_seconds")[-1],
                        Query(quantiles("hitcounter_settle_duration_seconds")[-1].expression, "p99 of settling"),
                    ],
                    limits=(0.1, 1),
                ),
            ],
        ),
        Row(
            "Elasticsearch",
            [
                Panel(
                    "Bulks: duration",
                    "Of one bulk request.",
                    "s",
                    quantiles("hitcounter_bulk_duration_seconds"),
                    limits=(1, 5),
                ),
                Panel(
                    "Documents sent back",
                    "By its own reason. They are sent again until they are in.",
                    "short",
                    [
                        Query(
                            f"{rate('hitcounter_retried_documents_total', 'reason')} or "
                            f'sum(rate(hitcounter_bulk_items_total{{{S},outcome=~"retry|hold"}}[$__rate_interval]))',
                            "{{reason}} per second",
                        )
                    ],
                    limits=(1, 100),
                    alerts=["HitcounterIndexingStandsStill"],
                ),
                Panel(
                    "Days left aside",
                    "Indices that refuse their documents while others take theirs, and the entries that wait for them. "
                    "/readyz of an indexer names them.",
                    "short",
                    [
                        Query(f"max(hitcounter_open_circuit_breakers{{{S}}})", "open circuit breakers"),
                        Query(f"sum(hitcounter_left_entries{{{S}}})", "entries left"),
                    ],
                    limits=(1, 10_000),
                    alerts=["HitcounterOldestEntryStuck"],
                ),
                Panel(
                    "Reads: duration",
                    "Of one read of an id's counts.",
                    "s",
                    quantiles("hitcounter_read_duration_seconds"),
                    limits=(0.5, 2.5),
                    alerts=["HitcounterReadsNotFresh"],
                ),
                Panel(
                    "Calls that failed",
                    "Of indexers, by server; each is tried again.",
                    "short",
                    [Query(rate("hitcounter_failures_total", "where"), "{{where}} per second")],
                    width=12,
                    limits=(0.1, 1),
                ),
                Panel(
                    "Reads by result",
                    "stale: last known counts; refused: none were known.",
                    "short",
                    [Query(rate("hitcounter_reads_total", "result"), "{{result}} per second")],
                    width=12,
                    is_stacked=True,
                    alerts=["HitcounterReadsNotFresh"],
                ),
            ],
        ),
        Row(
            "Our own processes",
            [
                Panel(
                    "Processor",
                    "Seconds of processor time in a second. An API near 1 needs company: it has one event loop.",
                    "short",
                    [
                        Query(
                            f"rate(process_cpu_seconds_total{{{S}}}[$__rate_interval]) * on (instance, namespace, "
                            f"release) group_left (service) hitcounter_build_info{{{S}}}",
                            "{{service}} {{instance}}",
                        )
                    ],
                    width=12,
                    limits=(0.7, 0.9),
                ),
                Panel(
                    "Memory",
                    "Resident memory of each process.",
                    "bytes",
                    [
                        Query(
                            f"process_resident_memory_bytes{{{S}}} * on (instance, namespace, release) "
                            f"group_left (service) hitcounter_build_info{{{S}}}",
                            "{{service}} {{instance}}",
                        )
                    ],
                    width=12,
                ),
            ],
        ),
    ],
)

DASHBOARDS: Final = (OVERVIEW, PATH, AUTOSCALING, STORES)


# ── in Grafana's words ───────────────────────────────────────────────────────────────────────────────────────────────


def render(dashboard: Dashboard) -> Json:
    """Return a dashboard as Grafana imports it."""
    return {
        "id": None,
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["hitcounter"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "Hit counter",
                "tags": ["hitcounter"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            },
            {"type": "link", "title": "Runbook", "url": RUNBOOK, "targetBlank": True, "icon": "doc"},
        ],
        "templating": {"list": build_variables(dashboard)},
        "annotations": {"list": build_annotations()},
        "panels": list(lay_out(dashboard.rows)),
    }


def build_variables(dashboard: Dashboard) -> list[Json]:
    """Return what is chosen at the top: data source, namespace and release, and the parameters of the formula."""
    variables = [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "hide": 0,
        },
        _choice("namespace", "Namespace", "label_values(hitcounter_build_info, namespace)"),
        _choice("release", "Release", 'label_values(hitcounter_build_info{namespace=~"$namespace"}, release)'),
    ]
    if dashboard is AUTOSCALING:
        variables += [
            _parameter("utilization", "Target utilization", "0.7"),
            _parameter("drain_seconds", "Drain target (s)", "30"),
            _parameter("start_seconds", "Start (s)", "20"),
        ]
    return variables


def _choice(name: str, label: str, query: str) -> Json:
    everything = {"selected": True, "text": "All", "value": "$__all"}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": everything,
        "hide": 0,
    }


def _parameter(name: str, label: str, value: str) -> Json:
    chosen = {"selected": True, "text": value, "value": value}
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": value,
        "current": chosen,
        "options": [chosen],
        "hide": 0,
    }


def build_annotations() -> list[Json]:
    """Return the marks over every course: changes of scale and new versions."""
    of_indexers = f'count by (release) (hitcounter_build_info{{{S},service="indexer"}}'
    of_versions = f"count by (service, version) (hitcounter_build_info{{{S}}}"
    return [
        _annotation("Scaling", "blue", f"({of_indexers}) - {of_indexers} offset 1m)) != 0", "indexers of {{release}}"),
        _annotation("Deploys", "purple", f"{of_versions}) unless {of_versions} offset 1m)", "{{service}} {{version}}"),
    ]


def _annotation(name: str, color: str, expression: str, title: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expression,
        "titleFormat": title,
        "step": "60s",
    }


def lay_out(rows: Sequence[Row]) -> Iterator[Json]:
    """Yield every row and its panels, from left to right and from top to bottom."""
    number, top = 1, 0
    for row in rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": place}
        number, top, left = number + 1, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + panel.height, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **render_panel(panel)}
            number, left = number + 1, left + panel.width
        top += row.panels[-1].height


def render_panel(panel: Panel) -> Json:
    """Return a panel without its place."""
    return {
        "type": "stat" if panel.is_stat else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "links": [
            {"title": f"Runbook: {alert}", "url": f"{RUNBOOK}#{alert.lower()}", "targetBlank": True}
            for alert in panel.alerts
        ],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel), **_looks(panel)},
            "overrides": [],
        },
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                "range": not panel.is_stat,
                "instant": panel.is_stat,
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _thresholds(panel: Panel) -> Json:
    colors = ["red", "yellow", "green"] if panel.falling else ["green", "yellow", "red"]
    limits = sorted(panel.limits)
    steps = [{"color": color, "value": value} for color, value in zip(colors, [None, *limits], strict=False)]
    return {"mode": "absolute", "steps": steps}


def _looks(panel: Panel) -> Json:
    if panel.is_stat:
        return {"color": {"mode": "thresholds"}}
    return {
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.is_stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        },
    }


def _options(panel: Panel) -> Json:
    if panel.is_stat:
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if panel.limits else "none",
            "graphMode": "none",
            "textMode": "auto" if len(panel.queries) == 1 and "{{" not in panel.queries[0].legend else "value_and_name",
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def main(arguments: list[str]) -> None:
    """Write the dashboards into the folder given, that of the chart unless another is."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        text = json.dumps(render(dashboard), indent=1, ensure_ascii=False)
        (folder / f"{dashboard.uid}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
