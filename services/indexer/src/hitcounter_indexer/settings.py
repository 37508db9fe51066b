"""The settings of the indexer."""

from __future__ import annotations

from hitcounter.health import ManagementSettings
from hitcounter.settings import ElasticsearchSettings, IndexSettings, Port, Section, SettingsBase, TracingSettings
from pydantic import Field


class IndexerSection(Section):
    """How entries become bulks."""

    bulk_max_documents: int = Field(
        5000,
        ge=1,
        le=50_000,
        description="Documents in one bulk at most. Measured: 2,000 to 5,000 are written fastest.",
    )
    bulk_max_bytes: int = Field(
        8 * 1024 * 1024,
        ge=64 * 1024,
        le=90 * 1024 * 1024,
        description="Bytes in one bulk at most. Elasticsearch refuses more than its http.max_content_length (100 MB).",
    )
    bulk_max_age_ms: int = Field(
        50,
        ge=0,
        le=10_000,
        description="How long a small bulk waits for more entries. Higher: fewer, larger bulks when there is little to "
        "do, and hits countable later.",
    )
    bulks_in_flight: int = Field(
        2,
        ge=1,
        le=16,
        description="Bulks under way at once: one is prepared while another is written. Bounds the memory, too.",
    )
    block_ms: int = Field(
        1000,
        ge=10,
        le=1400,
        description="How long a read waits for the first entry. Bounds how late an idle indexer sees SIGTERM.",
    )
    reclaim_after_seconds: float = Field(
        30.0,
        ge=0.5,
        le=3600,
        description="Silence after which another indexer's entries are taken over. Too low: entries of a slow indexer "
        "are written twice (and counted once); too high: a killed indexer's entries wait.",
    )
    max_deliveries: int = Field(
        5,
        ge=2,
        le=100,
        description="Deliveries after which a document of an entry becomes a dead letter if its index refuses it while "
        "taking others of the same request.",
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        le=600,
        description="How long SIGTERM lets the bulks under way finish. Must be shorter than the pod's grace period.",
    )
    as_of_interval_ms: int = Field(
        500,
        ge=50,
        le=60_000,
        description="How often the as-of is published. Each time costs a refresh of the indices.",
    )


class IndexerManagementSettings(ManagementSettings):
    """Where the indexer's management port listens."""

    port: Port = Field(8082, description="Port of /livez, /readyz and /metrics.")


class IndexerSettings(SettingsBase):
    """Everything the indexer reads from its environment."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    index: IndexSettings = IndexSettings()
    indexer: IndexerSection = IndexerSection()
    management: IndexerManagementSettings = IndexerManagementSettings()
    tracing: TracingSettings = TracingSettings()
