"""The settings of the API."""

from __future__ import annotations

from hitcounter.entries import Durability
from hitcounter.health import ManagementSettings
from hitcounter.hits import BATCH_MAX_HITS
from hitcounter.settings import ElasticsearchSettings, Host, Port, Section, SettingsBase, TracingSettings
from pydantic import Field
from pydantic_settings import BaseSettings


class HttpSettings(Section):
    """Where clients connect."""

    host: Host = Field(
        "127.0.0.1", description="Address to listen on; 0.0.0.0 in a container, or :: for IPv6 and IPv4."
    )
    port: Port = Field(8001, description="Port of the HTTP API.")
    reuse_port: bool = Field(
        False,
        description="Let several processes listen on this port (SO_REUSEPORT): for a machine with several cores and "
        "without pods. Each needs a management port of its own. Off: a port that another process has is an error at "
        "start.",
    )
    page: bool = Field(
        False,
        description="Show a page for people at /: rate, backlog, freshness, ledger, and the counts of an id. It shows "
        "nothing that the API does not answer anyway; off, since visitors of a public address are no operators.",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        le=3600,
        description="How long an idle connection is kept. Must be longer than the balancer's own (60 s for most): "
        "else it now and then sends a request into a connection that we are closing, and its client sees a 502.",
    )
    max_connections: int = Field(
        10_000,
        ge=10,
        le=1_000_000,
        description="Connections that may be open at once; any more are answered with 503 and closed. An idle one "
        "costs 6 KB of memory, one that is sending 20 KB or more: 10,000 fit into the 512 MiB of a pod. Each takes an "
        "open file, too: the soft limit of files is raised as far as the hard limit allows.",
    )
    drain_seconds: int = Field(
        15,
        ge=1,
        le=600,
        description="How long SIGTERM lets requests under way finish. Must be shorter than the pod's grace period.",
    )


class IntakeSettings(Section):
    """How hits wait for Redis."""

    limit: int = Field(
        20_000,
        ge=BATCH_MAX_HITS,
        le=1_000_000,
        description="Hits that may wait for Redis; any more are refused with 503. 20,000 is what one process takes in "
        "about a second: those further behind would get their answer too late to be of use. Bounds the memory, too. A "
        "quarter of it, as far as that leaves room for the largest batch, is kept for requests of a single hit. Too "
        "low: refusals at every hiccup of Redis.",
    )
    budget_seconds: float = Field(
        0.7,
        ge=0.05,
        le=60,
        description="How long one batch of hits is tried, retries included, before its requests get 503. Too low: "
        "refusals where Redis was only slow; too high: clients wait for an answer that does not come.",
    )
    durability: Durability = Field(
        Durability.MEMORY,
        description="What a hit has survived when it is acknowledged, unless its request asks otherwise: memory (Redis "
        "has it, and writes it to its file by its own appendfsync) or disk (Redis has synced it; from version 7.2 on).",
    )
    disk_budget_seconds: float = Field(
        3.0,
        ge=0.05,
        le=60,
        description="The same as budget_seconds for hits that wait for the disk. With appendfsync everysec a sync "
        "comes once a second, so that less than 2.5 would refuse them for no reason.",
    )
    batch_requests: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Batches (POST /analytics/batch) that may be under way at once, from the end of their body to "
        "their answer; any more are refused with 503. Bodies that are still arriving may take 1 MiB for each of them, "
        "all together.",
    )


class ReadSettings(Section):
    """How counts are read."""

    timeout_seconds: float = Field(
        5.0,
        gt=0,
        le=120,
        description="How long Elasticsearch may take for one read. Too low: refusals while it is only busy; too high: "
        "reads pile up while it hangs.",
    )
    max_concurrent: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Searches under way at once, and so the connections to each address of Elasticsearch. Others wait "
        "for a place, for half of the time-out at most and 32 for each place, and get 503 then. Keeps a slow "
        "Elasticsearch from filling the API with waiting reads.",
    )
    remembered_ids: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="Ids whose last counts are kept in memory (about 1 KB each) to be answered while Elasticsearch is "
        "away. 0: never answer stale counts.",
    )


class ApiManagementSettings(ManagementSettings):
    """Where the API's management port listens."""

    port: Port = Field(8081, description="Port of /livez, /readyz and /metrics.")


class ApiSettings(SettingsBase):
    """Everything the API reads from its environment."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    http: HttpSettings = HttpSettings()
    management: ApiManagementSettings = ApiManagementSettings()
    intake: IntakeSettings = IntakeSettings()
    reads: ReadSettings = ReadSettings()
    tracing: TracingSettings = TracingSettings()


class WatchdogSettings(BaseSettings):
    """What systemd tells a service whose unit has `WatchdogSec` (sd_watchdog_enabled(3)): no names of ours."""

    notify_socket: str = ""
    watchdog_usec: int = 0
