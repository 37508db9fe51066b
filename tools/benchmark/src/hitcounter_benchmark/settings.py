"""The environment variables of a run, read once in ``__main__``. Command-line flags override them."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class BenchmarkSettings(BaseSettings):
    """``HITCOUNTER_BENCHMARK__WORKERS`` and ``HITCOUNTER_BENCHMARK__ID``."""

    model_config = SettingsConfigDict(env_prefix="HITCOUNTER_BENCHMARK__")

    workers: int | None = Field(default=None, ge=1, le=10_000)
    """Connections; the default depends on the loop."""
    id: str = Field(default="1", min_length=1)
    """The id that takes the hits."""


def explain(error: ValidationError) -> str:
    """Return one readable line per wrong setting."""
    lines = [f"HITCOUNTER_BENCHMARK__{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]
    return "\n".join(lines)
