"""The settings of the indexer."""

from __future__ import annotations

from hitcounter.health import ManagementSettings
from hitcounter.settings import ElasticsearchSettings, IndexSettings, Port, Section, SettingsBase, TracingSettings
from pydantic import Field


class IndexerSection(Section):
    """How entries are read from Redis and written to Elasticsearch."""

    bulk_max_documents: int = Field(
        5000,
        ge=1,
        le=50_000,
        description="Maximum number of documents in one bulk request. 2,000 to 5,000 are written fastest (measured).",
    )
    bulk_max_bytes: int = Field(
        8 * 1024 * 1024,
        ge=64 * 1024,
        le=90 * 1024 * 1024,
        description="Maximum size of one bulk request. Elasticsearch rejects more than its http.max_content_length "
        "(100 MB by default).",
    )
    bulk_max_age_ms: int = Field(
        50,
        ge=0,
        le=10_000,
        description="How long a small bulk waits for more entries. Higher: fewer and larger bulks at low load, but "
        "hits become countable later.",
    )
    bulks_in_flight: int = Field(
        2,
        ge=1,
        le=16,
        description="Bulks in progress at once: with 2, one is prepared while the other is written. It also limits "
        "memory.",
    )
    block_ms: int = Field(
        1000,
        ge=10,
        le=1400,
        description="How long a read from the stream waits for the first entry. An idle indexer reacts to SIGTERM only "
        "after this time.",
    )
    reclaim_after_seconds: float = Field(
        30.0,
        ge=0.5,
        le=3600,
        description="How long an indexer must be silent before others take over its entries. Too low: entries of a "
        "slow indexer are written twice (but counted once). Too high: entries of a killed indexer wait longer.",
    )
    max_deliveries: int = Field(
        5,
        ge=2,
        le=100,
        description="After this many deliveries of an entry, a document that its index refuses becomes a dead letter, "
        "but only if the index took another document of the same request.",
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        le=600,
        description="How long bulks in progress may take to finish after SIGTERM. Must be shorter than the pod's "
        "termination grace period.",
    )
    as_of_interval_ms: int = Field(
        500,
        ge=50,
        le=60_000,
        description="How often the completeness time (as-of) is published. Each time costs a refresh of the indices. "
        "Higher: hits become countable later.",
    )


class IndexerManagementSettings(ManagementSettings):
    """The management port of the indexer."""

    port: Port = Field(8082, description="Port of /livez, /readyz and /metrics.")


class IndexerSettings(SettingsBase):
    """All settings of the indexer."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    index: IndexSettings = IndexSettings()
    indexer: IndexerSection = IndexerSection()
    management: IndexerManagementSettings = IndexerManagementSettings()
    tracing: TracingSettings = TracingSettings()
