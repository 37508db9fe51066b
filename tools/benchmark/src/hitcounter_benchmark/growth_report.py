"""What the experiments on growth found, and how it is told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from hitcounter_benchmark.tables import Table, render_sections, show


@dataclass(frozen=True, slots=True)
class IndexersRow:
    """A backlog drained by some indexers, each held to a share of a core."""

    indexers: int
    share: float
    used_share: float
    """What each used in fact."""
    elasticsearch_cores: float
    settled_per_second: float


@dataclass(frozen=True, slots=True)
class StoredRow:
    """Reads and writes with so many stored hits."""

    ids: int
    hits: int
    documents: int
    disk_bytes_per_document: float
    hits_of_read_id: int
    cold_p50_ms: float
    """Of the five windows of an id with a handful of hits."""
    cold_p90_ms: float
    read_p50_ms: float
    """Of one of the ids that have the stored hits."""
    read_p90_ms: float
    written_per_second: float
    elasticsearch_cpu_us: float
    """Processor time of Elasticsearch for each hit written."""


@dataclass(frozen=True, slots=True)
class BacklogRow:
    """Track while a backlog stands or drains, and how fast it drains."""

    hits: int
    redis_mb: float
    """What Redis grew by."""
    standing_p50_ms: float
    standing_p99_ms: float
    draining_p50_ms: float
    draining_p99_ms: float
    errors: int
    drained_per_second: float | None
    """By one indexer at full speed; None where there was nothing to drain."""


@dataclass(frozen=True, slots=True)
class Growth:
    """All experiments."""

    indexers: Sequence[IndexersRow]
    stored: Sequence[StoredRow]
    backlog: Sequence[BacklogRow]


def render_growth(growth: Growth) -> str:
    """Return all tables as text."""
    return render_sections(build_growth_sections(growth))


def build_growth_sections(growth: Growth) -> list[tuple[str, Table]]:
    """Return a title and a table for each experiment."""
    return [
        ("Indexers, each held to a share of a core", _tabulate_indexers(growth.indexers)),
        ("Stored hits", _tabulate_stored(growth.stored)),
        ("Backlog", _tabulate_backlogs(growth.backlog)),
    ]


def _tabulate_indexers(rows: Sequence[IndexersRow]) -> Table:
    head = ["indexers", "to one", "settled/s", "share allowed", "share used", "Elasticsearch's cores"]
    first = rows[0].settled_per_second if rows else 0.0
    return [
        head,
        *(
            [
                str(row.indexers),
                show(row.settled_per_second / first if first else None, ".2f"),
                show(row.settled_per_second, ",.0f"),
                show(row.share, ".2f"),
                show(row.used_share, ".2f"),
                show(row.elasticsearch_cores, ".2f"),
            ]
            for row in rows
        ),
    ]


def _tabulate_stored(rows: Sequence[StoredRow]) -> Table:
    head = ["hits", "ids", "documents", "B each", "cold p50 ms", "p90", "hits of an id", "its p50 ms", "p90"]
    return [
        [*head, "written/s", "ES µs a hit"],
        *(
            [
                *(show(number, ",") for number in (row.hits, row.ids, row.documents)),
                show(row.disk_bytes_per_document, ".0f"),
                *(show(duration_ms, ".1f") for duration_ms in (row.cold_p50_ms, row.cold_p90_ms)),
                show(row.hits_of_read_id, ","),
                *(show(duration_ms, ".1f") for duration_ms in (row.read_p50_ms, row.read_p90_ms)),
                show(row.written_per_second, ",.0f"),
                show(row.elasticsearch_cpu_us, ".1f"),
            ]
            for row in rows
        ),
    ]


def _tabulate_backlogs(rows: Sequence[BacklogRow]) -> Table:
    head = ["backlog", "Redis MB", "standing: p50 ms", "p99", "draining: p50 ms", "p99", "errors", "drained/s"]
    return [
        head,
        *(
            [
                show(row.hits, ","),
                show(row.redis_mb, ".0f"),
                *(show(duration_ms, ".2f") for duration_ms in (row.standing_p50_ms, row.standing_p99_ms)),
                *(show(duration_ms, ".2f") for duration_ms in (row.draining_p50_ms, row.draining_p99_ms)),
                show(row.errors, ","),
                show(row.drained_per_second, ",.0f"),
            ]
            for row in rows
        ),
    ]
