"""The settings of the API."""

from __future__ import annotations

from typing import Literal

from hitcounter.entries import Durability
from hitcounter.health import ManagementSettings
from hitcounter.hits import BATCH_MAX_HITS
from hitcounter.settings import ElasticsearchSettings, Host, Port, Section, SettingsBase, TracingSettings
from pydantic import Field
from pydantic_settings import BaseSettings


class HttpSettings(Section):
    """The HTTP server for clients."""

    host: Host = Field(
        "127.0.0.1", description="Address to listen on. In a container use 0.0.0.0, or :: for IPv6 and IPv4."
    )
    port: Port = Field(8001, description="Port of the HTTP API.")
    reuse_port: bool = Field(
        False,
        description="Let several processes listen on this port (SO_REUSEPORT). For a machine with several cores and "
        "without Kubernetes; each process needs its own management port. Off: a port in use is an error at start.",
    )
    page: bool = Field(
        False,
        description="Serve a status page at /: rate, backlog, freshness, ledger, and the counts of an id. It shows "
        "only what the API answers anyway. Off by default, because visitors of a public address do not need it.",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        le=3600,
        description="Keep-alive timeout: how long an idle connection stays open. Must be longer than that of the load "
        "balancer (usually 60 s). Too low: the balancer sometimes sends a request on a connection that is being "
        "closed, and the client gets a 502.",
    )
    max_connections: int = Field(
        10_000,
        ge=10,
        le=1_000_000,
        description="Maximum number of open connections; further ones get 503 and are closed. An idle connection takes "
        "6 KB of memory, a sending one 20 KB or more: 10,000 fit into a pod with 512 MiB. Each also takes an open "
        "file; the soft limit of open files is raised as far as the hard limit allows.",
    )
    drain_seconds: int = Field(
        15,
        ge=1,
        le=600,
        description="How long requests in progress may take to finish after SIGTERM. Must be shorter than the pod's "
        "termination grace period.",
    )


class AccessSettings(Section):
    """Who may track and read ([security](security.md))."""

    mode: Literal["open", "keys"] = Field(
        "open",
        description="open: whoever reaches the port may do everything. keys: a request needs a key of the keys file, "
        "with the scope of its route.",
    )
    keys_file: str | None = Field(
        None,
        min_length=1,
        description="Path of the keys file (YAML or JSON, up to 8 MiB and 20,000 keys), for mode keys. It is read "
        "every 2 seconds, so a change needs no restart. A change that is not valid is not taken: the log, "
        "hitcounter_keys_file_invalid and the warnings of /readyz report it.",
    )


class IntakeSettings(Section):
    """How hits are queued in the API on their way to Redis."""

    limit: int = Field(
        20_000,
        ge=BATCH_MAX_HITS,
        le=1_000_000,
        description="Maximum number of hits in memory that wait for Redis; further hits get 503. The default is what "
        "one process accepts in about a second. It also limits memory. A quarter of it (less if the largest batch "
        "would not fit into the rest) is reserved for requests with a single hit. Too low: 503 at every short delay of "
        "Redis.",
    )
    budget_seconds: float = Field(
        0.7,
        ge=0.05,
        le=60,
        description="Time limit for adding one batch of hits to Redis, retries included; then its requests get 503. "
        "Too low: 503 when Redis is only slow. Too high: clients wait long for the 503 during an outage.",
    )
    durability: Durability = Field(
        Durability.MEMORY,
        description="When a hit is acknowledged, unless its request chooses: memory (Redis has it in memory, and "
        "writes it to its append-only file as appendfsync says) or disk (Redis has synced it; needs Redis 7.2).",
    )
    disk_budget_seconds: float = Field(
        3.0,
        ge=0.05,
        le=60,
        description="The same as budget_seconds for hits with durability disk. With appendfsync everysec Redis syncs "
        "once a second. Below 2.5: hits get 503 although Redis works.",
    )
    batch_requests: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Maximum memory for the bodies of batches (POST /analytics/batch), in MiB, which is the maximum "
        "size of one: from the arrival of a body to its response. Further batches get 503.",
    )


class ReadSettings(Section):
    """How counts are read from Elasticsearch."""

    timeout_seconds: float = Field(
        5.0,
        gt=0,
        le=120,
        description="Time limit for one read from Elasticsearch. Too low: 503 when Elasticsearch is only busy. Too "
        "high: reads pile up while it hangs.",
    )
    max_concurrent: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Maximum number of searches at once, and of connections to each address of Elasticsearch. Up to 32 "
        "times as many may wait for half of the timeout, then they get 503. This limits what a slow Elasticsearch can "
        "pile up in the API. Too low: reads get 503 although Elasticsearch has capacity left.",
    )
    remembered_ids: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="Number of ids whose last counts stay in memory (about 1 KB each). They are returned as stale "
        "counts while Elasticsearch is down. 0: never return stale counts.",
    )


class ScalingSettings(Section):
    """How many indexers are wanted: the formula in docs/autoscaling.md."""

    target_utilization: float = Field(
        0.7,
        ge=0.05,
        le=1,
        description="Share of its time that an indexer should be busy; the rest is reserve. Lower: more indexers.",
    )
    drain_target_seconds: float = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds in which a backlog should be drained. Lower: more indexers in a spike.",
    )
    start_seconds: float = Field(
        20,
        ge=1,
        le=300,
        description="Seconds from the creation of an indexer until it is ready. Too low: in a spike, too few indexers "
        "are wanted at first.",
    )
    hits_per_busy_second: float = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Hits that one indexer settles per busy second. Used until indexers have been busy for about a "
        "minute, and then measured.",
    )


class ApiManagementSettings(ManagementSettings):
    """The management port of the API."""

    port: Port = Field(8081, description="Port of /livez, /readyz and /metrics.")


class ApiSettings(SettingsBase):
    """All settings of the API."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    http: HttpSettings = HttpSettings()
    access: AccessSettings = AccessSettings()
    management: ApiManagementSettings = ApiManagementSettings()
    intake: IntakeSettings = IntakeSettings()
    reads: ReadSettings = ReadSettings()
    scaling: ScalingSettings = ScalingSettings()
    tracing: TracingSettings = TracingSettings()


class WatchdogSettings(BaseSettings):
    """The variables that systemd sets for a unit with `WatchdogSec` (sd_watchdog_enabled(3)), by systemd's names."""

    notify_socket: str = ""
    watchdog_usec: int = 0
