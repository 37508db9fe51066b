"""The settings of the operator. What it shall do stands in the resource; here is only where and how often."""

from __future__ import annotations

from hitcounter.health import ManagementSettings
from hitcounter.settings import ElasticsearchSettings, IndexSettings, Port, Section, SettingsBase
from pydantic import Field


class OperatorSection(Section):
    """Where and how often the operator looks."""

    namespace: str = Field(
        "default",
        pattern=r"^[a-z0-9-]{1,63}$",
        description="The namespace of the installation: of its HitCounter and its indexers.",
    )
    name: str = Field(
        "hitcounter",
        pattern=r"^[a-z0-9.-]{1,200}$",
        description="The HitCounter it looks after. Others in the namespace belong to other operators, which have "
        "stores of their own.",
    )
    interval_seconds: float = Field(
        5.0,
        ge=2,
        le=60,
        description="How often it looks at the queue and the indexers, and decides. Higher: a spike is seen later.",
    )
    care_interval_seconds: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="How often it looks after what changes rarely: template, aliases, retention, dead consumers. "
        "Higher: drift stays longer.",
    )
    consumer_silence_seconds: float = Field(
        600.0,
        ge=10,
        le=86_400,
        description="Silence after which a consumer with nothing pending is removed as dead. An indexer at work is "
        "never silent for longer than a bulk takes.",
    )


class OperatorManagementSettings(ManagementSettings):
    """Where the operator's management port listens."""

    port: Port = Field(8083, description="Port of /livez, /readyz and /metrics, and of /v1/scale for KEDA.")


class OperatorSettings(SettingsBase):
    """Everything the operator reads from its environment."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    index: IndexSettings = IndexSettings()
    operator: OperatorSection = OperatorSection()
    management: OperatorManagementSettings = OperatorManagementSettings()
