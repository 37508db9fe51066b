"""Writes the Grafana dashboards: charts/hitcounter/dashboards/*.json.

    .venv/bin/python tools/dashboards.py [FOLDER]

A dashboard consists of rows of panels. A panel defines what it shows and why; `render` adds what is the same for all
panels in Grafana's JSON. A test fails if the files differ from this module.
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
"""Target of the panel links. The chart replaces it with the configured URL."""

S: Final = 'namespace=~"$namespace",release=~"$release"'
"""Selects the series by the variables at the top of a dashboard."""
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
        title: what the panel shows.
        description: purpose of the panel, and which values are normal.
        unit: Grafana unit (s, percentunit, bytes, short, ...).
        queries: the queries of the panel.
        width: number of columns, of 24.
        limits: thresholds for yellow and red; `falling` if lower is worse.
        alerts: related alerts; the panel links to their entries in the runbook.
        is_stat: a single number instead of a graph.
        is_stacked: stack the lines.
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
        """Height in Grafana's grid units."""
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
    """Return the summed rate of a counter; `more` adds label matchers."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{S}{more}}}[{window}]))"


def share(part: str, whole: str) -> str:
    """Return a ratio, or no value if the denominator is 0."""
    return f"{part} / ({whole} > 0)"


def quantiles(metric: str) -> list[Query]:
    """Return the quantiles of a duration histogram."""
    buckets = f"sum by (le) (rate({metric}_bucket{{{S}}}[$__rate_interval]))"
    return [Query(f"histogram_quantile({q}, {buckets})", f"p{int(q * 100)}") for q in (0.5, 0.9, 0.99)]


def mean(metric: str) -> str:
    """Return the mean of a histogram."""
    return share(rate(f"{metric}_sum"), rate(f"{metric}_count"))


def largest(metric: str, more: str = "") -> str:
    """Return a gauge that has the same value in all processes."""
    return f"max({metric}{{{S}{more}}})"


ACCEPTED: Final = rate("hitcounter_accepted_hits_total")
SETTLED: Final = rate("hitcounter_settled_hits_total")
REFUSED: Final = ',reason!="durability"'
BACKLOG: Final = largest("hitcounter_backlog_hits")
RATE_OF_ONE: Final = share(
    rate("hitcounter_settled_hits_total", window="5m"), rate("hitcounter_busy_seconds_total", window="5m")
)
"""Hits that one indexer settles per busy second: μ."""


def term(name: str, computed: str) -> str:
    """Return one term of the scaling formula, in indexers, computed in the query. An operator exports its own terms."""
    return f'label_replace({computed}, "term", "{name}", "", "")'


# ── dashboards ───────────────────────────────────────────────────────────────────────────────────────────────────────

OVERVIEW = Dashboard(
    "hitcounter-overview",
    "Hit counter: overview",
    "Health at a glance: objectives, ledger, freshness, arrivals, backlog and running processes.",
    [
        Row(
            "Health",
            [
                Panel(
                    "Alerts firing",
                    "Firing alerts of hitcounter, of all releases. Each has an entry in the runbook.",
                    "short",
                    [Query('count(ALERTS{alertname=~"Hitcounter.+",alertstate="firing"}) or vector(0)', "alerts")],
                    width=4,
                    limits=(1, 2),
                    is_stat=True,
                ),
                Panel(
                    "Acknowledged, last hour",
                    "Ratio of hits that were acknowledged. The objective is 99.9 % over 30 days.",
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
                    "Ratio of hits that became countable within 30 seconds. The objective is 99 % over 30 days.",
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
                    "Hits in the stream minus the hits that the ledger accounts for. Must be 0.",
                    "short",
                    [Query(f"max(abs(hitcounter_ledger_difference_hits{{{S}}}))", "hits")],
                    width=4,
                    limits=(1, 1),
                    alerts=["HitcounterLedgerDiffers"],
                    is_stat=True,
                ),
                Panel(
                    "APIs and indexers",
                    "Processes that Prometheus scrapes.",
                    "short",
                    [Query(f"count by (service) (hitcounter_build_info{{{S}}})", "{{service}}")],
                    width=4,
                    alerts=["HitcounterBlind"],
                    is_stat=True,
                ),
                Panel(
                    "Redis full",
                    "Ratio of used to available memory of Redis. A full Redis rejects hits.",
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
                    "Normally both rates are equal. If fewer hits are settled than accepted, the backlog grows.",
                    "short",
                    [
                        Query(ACCEPTED, "accepted per second"),
                        Query(SETTLED, "settled per second"),
                        Query(rate("hitcounter_refused_hits_total"), "rejected per second"),
                    ],
                    alerts=["HitcounterIndexingStandsStill"],
                ),
                Panel(
                    "Backlog",
                    "Hits accepted and not yet settled. Normal is about one second of arrivals.",
                    "short",
                    [Query(BACKLOG, "hits")],
                    alerts=["HitcounterBacklogWillNotDrain"],
                ),
                Panel(
                    "Freshness",
                    "Age of the oldest hit that is not countable yet, and of the oldest entry that is not settled yet.",
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
                    "Hits by state, since the installation began: accepted = indexed + duplicate + dead + backlog.",
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
                    "Processes by service and version. If two versions run for a long time, a rollout is stuck.",
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
    "Rate, errors and duration of each stage, in the order in which a hit passes through them.",
    [
        Row(
            "Track: from the client to the response",
            [
                Panel(
                    "Track: hits",
                    "Hits that clients send, by result.",
                    "short",
                    [
                        Query(ACCEPTED, "accepted per second"),
                        Query(rate("hitcounter_refused_hits_total", "reason"), "rejected per second: {{reason}}"),
                    ],
                    is_stacked=True,
                ),
                Panel(
                    "Track: errors",
                    "Ratio of hits that were not acknowledged (the objective is below 0.1 %), and of invalid requests.",
                    "percentunit",
                    [
                        Query(
                            share(
                                rate("hitcounter_refused_hits_total", more=REFUSED),
                                f"({ACCEPTED} + {rate('hitcounter_refused_hits_total', more=REFUSED)})",
                            ),
                            "rejected",
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
                    "Longest waiting time in each batch. The objective for p90 is below 100 ms.",
                    "s",
                    quantiles("hitcounter_track_duration_seconds"),
                    limits=(0.1, 0.5),
                ),
            ],
        ),
        Row(
            "Client connections",
            [
                Panel(
                    "Connections: open",
                    "Client connections per API. Above HITCOUNTER_HTTP__MAX_CONNECTIONS new connections are rejected.",
                    "short",
                    [Query(f"max(hitcounter_open_connections{{{S}}})", "maximum of one API")],
                ),
                Panel(
                    "Connections: rejected, and internal errors",
                    "Connections rejected because of the limit, and requests that failed because of a bug in the API "
                    "(500).",
                    "short",
                    [
                        Query(rate("hitcounter_refused_connections_total"), "rejected per second"),
                        Query(rate("hitcounter_internal_errors_total"), "internal errors per second"),
                    ],
                ),
            ],
        ),
        Row(
            "Append: from the API to Redis",
            [
                Panel(
                    "Append: batches",
                    "Entries added to the stream, the average number of hits per entry, and the hits that wait to be "
                    "added.",
                    "short",
                    [
                        Query(rate("hitcounter_append_duration_seconds_count"), "entries per second"),
                        Query(mean("hitcounter_entry_hits"), "hits per entry"),
                        Query(f"sum(hitcounter_waiting_hits{{{S}}})", "hits waiting"),
                    ],
                ),
                Panel(
                    "Append: errors",
                    "Failed attempts. Most are retried within the same request.",
                    "short",
                    [Query(rate("hitcounter_append_failures_total"), "failures per second")],
                    limits=(0.1, 1),
                ),
                Panel(
                    "Append: duration",
                    "Time until a batch was in Redis, including retries.",
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
                    "Documents by the response of Elasticsearch, and documents per bulk request.",
                    "short",
                    [
                        Query(rate("hitcounter_bulk_items_total", "outcome"), "{{outcome}} per second"),
                        Query(mean("hitcounter_bulk_documents"), "documents per bulk request"),
                    ],
                    alerts=["HitcounterDeadLetters"],
                ),
                Panel(
                    "Index: errors",
                    "Failed calls by server, and entries that were reclaimed from dead indexers, left to newer "
                    "indexers, or failed.",
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
                    "Duration of one bulk request.",
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
                    "Settled hits by result.",
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
                    "Time until the entries of one bulk request were settled, including retries.",
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
                    "Hits by whether they became countable within 30 seconds, as one API observes it.",
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
                    "Ratio of hits that were not countable within 30 seconds. The objective is below 1 %.",
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
                    "Time from acceptance until a hit is countable, to about a second.",
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
                    "Reads of counts, by result.",
                    "short",
                    [Query(rate("hitcounter_reads_total", "result"), "{{result}} per second")],
                    is_stacked=True,
                ),
                Panel(
                    "Read: errors",
                    "Ratio of reads that returned the last known counts, or none.",
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
                    "Duration of one read of an id's counts.",
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
    "Desired and running indexers, and the terms of the scaling decision. Set the parameters of the formula at the "
    "top to those of your values.",
    [
        Row(
            "Decision",
            [
                Panel(
                    "Indexers",
                    "Desired: by the operator, or else by the HorizontalPodAutoscaler (also the one of KEDA). "
                    "Running: indexers that Prometheus scrapes. Without an autoscaler both are equal.",
                    "short",
                    [
                        Query(
                            f"{largest('hitcounter_operator_desired_replicas')} or "
                            f"max(kube_horizontalpodautoscaler_status_desired_replicas{{{SCALER}}}) or {INDEXERS}",
                            "desired",
                        ),
                        Query(INDEXERS, "running"),
                        Query(
                            f"max(kube_horizontalpodautoscaler_spec_max_replicas{{{SCALER}}}) or {INDEXERS}",
                            "maximum (without an autoscaler: running)",
                        ),
                    ],
                    width=12,
                    alerts=["HitcounterScalingAtMax", "HitcounterScalingBlind"],
                ),
                Panel(
                    "Terms of the decision",
                    "Indexers needed to keep up with arrivals, to drain the backlog, and for the hits that accumulate "
                    "while an indexer starts. The operator exports its own terms; without it they are computed from "
                    "the parameters at the top.",
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
            "Inputs",
            [
                Panel(
                    "Accepted and settled hits",
                    "The rate of accepted hits is an input of the formula.",
                    "short",
                    [Query(ACCEPTED, "accepted per second"), Query(SETTLED, "settled per second")],
                    alerts=["HitcounterBacklogWillNotDrain"],
                ),
                Panel(
                    "Backlog",
                    "Waiting hits, and the seconds to drain them at the current rate.",
                    "short",
                    [Query(BACKLOG, "hits"), Query(f"{BACKLOG} / ({SETTLED} > 0)", "seconds")],
                ),
                Panel(
                    "Hits per busy second",
                    "Throughput of one indexer. It is measured only while the indexer is busy, so idle time does not "
                    "lower it. With an operator, also its own measurement.",
                    "short",
                    [
                        Query(RATE_OF_ONE, "hits"),
                        Query(
                            largest("hitcounter_operator_indexer_hits_per_busy_second"),
                            "hits, measured by the operator",
                        ),
                    ],
                ),
                Panel(
                    "Busy",
                    "Ratio of the time during which an indexer has a bulk request in progress. The target is the "
                    "parameter at the top.",
                    "percentunit",
                    [Query(rate("hitcounter_busy_seconds_total", "instance"), "{{instance}}")],
                    limits=(0.8, 0.95),
                ),
                Panel(
                    "Rejected documents",
                    "Ratio of documents that Elasticsearch rejected (backpressure) to settled hits. Above 1 % the "
                    "number of indexers is kept, because more would increase the overload.",
                    "percentunit",
                    [
                        Query(
                            share(f"({rate('hitcounter_retried_documents_total')} or vector(0))", SETTLED),
                            "rejected",
                        )
                    ],
                    limits=(0.01, 0.1),
                ),
                Panel(
                    "Age of the oldest entry",
                    "Autoscaling should keep this low.",
                    "s",
                    [Query(largest("hitcounter_oldest_age_seconds"), "age")],
                    limits=(30, 60),
                    alerts=["HitcounterScalingAtMax"],
                ),
            ],
        ),
        Row(
            "Operator (if enabled)",
            [
                Panel(
                    "Reconciliations",
                    "Reconciliations per second, by result. waited: another operator holds the lease.",
                    "short",
                    [Query(rate("hitcounter_operator_turns_total", "result"), "{{result}}")],
                    alerts=["HitcounterOperatorStandsStill"],
                ),
                Panel(
                    "Duration of a reconciliation",
                    "Time to read, decide, scale and report. It should be far below the interval between two "
                    "reconciliations.",
                    "s",
                    quantiles("hitcounter_operator_turn_duration_seconds"),
                    limits=(1, 5),
                ),
                Panel(
                    "Start time of an indexer",
                    "Time from the creation of a pod until it is ready, as measured by the operator. After a spike "
                    "this is most of the waiting time.",
                    "s",
                    [Query(largest("hitcounter_operator_indexer_start_seconds"), "start")],
                    limits=(30, 60),
                ),
                Panel(
                    "Conditions",
                    "Conditions of the HitCounter: 1 if True, 0 if False or Unknown. `kubectl describe hitcounter` "
                    "shows the reason.",
                    "short",
                    [Query(f"max by (type) (hitcounter_operator_condition{{{S}}})", "{{type}}")],
                    width=12,
                ),
                Panel(
                    "Events",
                    "Events and log lines of the operator during the last five minutes, by reason.",
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
    "Redis and Elasticsearch as hitcounter uses them, and the CPU and memory of its own processes.",
    [
        Row(
            "Redis",
            [
                Panel(
                    "Memory",
                    "Memory that Redis uses, and its limit. A full Redis rejects new hits and keeps the accepted ones.",
                    "bytes",
                    [
                        Query(largest("hitcounter_redis_memory_bytes"), "used"),
                        Query(largest("hitcounter_redis_capacity_bytes"), "capacity"),
                    ],
                    alerts=["HitcounterRedisNearlyFull"],
                ),
                Panel(
                    "Redis settings",
                    "may evict: 1 if maxmemory-policy allows eviction (all hits are rejected then). append-only file: "
                    "1 if it is on (hits survive a restart of Redis). evicted keys: since Redis started.",
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
                    "Entries in the stream: queued, or in flight at an indexer.",
                    "short",
                    [Query(f"max by (state) (hitcounter_backlog_entries{{{S}}})", "{{state}}")],
                    is_stacked=True,
                ),
                Panel(
                    "Writes: p99",
                    "p99 of an append and of a settlement. Each is one script.",
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
                    "Duration of one bulk request.",
                    "s",
                    quantiles("hitcounter_bulk_duration_seconds"),
                    limits=(1, 5),
                ),
                Panel(
                    "Rejected documents that are retried",
                    "Documents by Elasticsearch's reason. They are sent again until they are indexed.",
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
                    "Indices that reject documents",
                    "Daily indices that reject documents while others accept theirs (open circuit breakers), and the "
                    "entries that wait for them. /readyz of an indexer names them.",
                    "short",
                    [
                        Query(f"max(hitcounter_open_circuit_breakers{{{S}}})", "open circuit breakers"),
                        Query(f"sum(hitcounter_left_entries{{{S}}})", "waiting entries"),
                    ],
                    limits=(1, 10_000),
                    alerts=["HitcounterOldestEntryStuck"],
                ),
                Panel(
                    "Reads: duration",
                    "Duration of one read of an id's counts.",
                    "s",
                    quantiles("hitcounter_read_duration_seconds"),
                    limits=(0.5, 2.5),
                    alerts=["HitcounterReadsNotFresh"],
                ),
                Panel(
                    "Failed calls",
                    "Failed calls of the indexers, by server. Each is retried.",
                    "short",
                    [Query(rate("hitcounter_failures_total", "where"), "{{where}} per second")],
                    width=12,
                    limits=(0.1, 1),
                ),
                Panel(
                    "Reads by result",
                    "stale: the last known counts were returned. refused: none were known.",
                    "short",
                    [Query(rate("hitcounter_reads_total", "result"), "{{result}} per second")],
                    width=12,
                    is_stacked=True,
                    alerts=["HitcounterReadsNotFresh"],
                ),
            ],
        ),
        Row(
            "Processes of hitcounter",
            [
                Panel(
                    "CPU",
                    "CPU seconds per second. An API has one event loop, so near 1 it needs more replicas.",
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


# ── Grafana JSON ───────────────────────────────────────────────────────────────────────────────────────────────


def render(dashboard: Dashboard) -> Json:
    """Return a dashboard as JSON that Grafana imports."""
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
    """Return the variables at the top: data source, namespace and release, and the parameters of the formula."""
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
    """Return the annotations on all graphs: scaling and new versions."""
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
    """Return a panel without its position."""
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
    """Write the dashboards into the given folder, by default the one of the chart."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        text = json.dumps(render(dashboard), indent=1, ensure_ascii=False)
        (folder / f"{dashboard.uid}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
