"""The settings of the operator: where it works and how often. Its desired state is in the HitCounter resource."""

from __future__ import annotations

from hitcounter.health import ManagementSettings
from hitcounter.settings import ElasticsearchSettings, IndexSettings, Port, Section, SettingsBase
from pydantic import Field


class OperatorSection(Section):
    """Which resource the operator manages, and how often it reconciles."""

    namespace: str = Field(
        "default",
        pattern=r"^[a-z0-9-]{1,63}$",
        description="The namespace of the installation: of its HitCounter resource and its indexers.",
    )
    name: str = Field(
        "hitcounter",
        pattern=r"^[a-z0-9.-]{1,200}$",
        description="The name of the HitCounter resource to manage. Each other HitCounter in the namespace needs its "
        "own operator and its own stores.",
    )
    interval_seconds: float = Field(
        5.0,
        ge=2,
        le=60,
        description="How often the operator reads the queue and the Deployment and decides on replicas. Higher: it "
        "reacts later to a spike.",
    )
    care_interval_seconds: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="How often the operator checks what changes rarely: template, aliases, settings of Redis. "
        "Higher: drift is repaired later.",
    )


class OperatorManagementSettings(ManagementSettings):
    """The management port of the operator."""

    port: Port = Field(8083, description="Port of /livez, /readyz and /metrics.")


class OperatorSettings(SettingsBase):
    """All settings of the operator."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    index: IndexSettings = IndexSettings()
    operator: OperatorSection = OperatorSection()
    management: OperatorManagementSettings = OperatorManagementSettings()
