"""The exceptions of hitcounter, grouped by what the caller should do.

    HitcounterError
    ├── ConfigurationError        exit at start, and name the setting to change
    ├── PermanentError            a retry cannot help
    │   ├── InvalidHit            the client must change the hit
    │   ├── DurabilityUnavailable the client must ask for less, or an operator must upgrade Redis
    │   ├── UndecodableEntry      the entry becomes a dead letter
    │   └── EntryTooNew           the entry is left to a newer indexer
    └── TransientError            wait retry_after_seconds, then retry
        ├── StreamUnavailable     Redis is down, full or misconfigured
        └── IndexUnavailable      Elasticsearch is down, slow, or refuses all requests

Errors of redis-py and elasticsearch-py are translated where they occur (redis_client.py, elastic.py) and kept as the
cause.
"""

from __future__ import annotations

from enum import StrEnum


class HitcounterError(Exception):
    """The base class: catch it where all of these failures are handled the same way."""


class ConfigurationError(HitcounterError):
    """A setting, or the configuration of a server, must be changed before the process can work."""


class PermanentError(HitcounterError):
    """A retry would fail in the same way."""


class InvalidHit(PermanentError):
    """A hit that breaks a rule of hits.py.

    Attributes:
        field: the part of the hit that is invalid, by the name the client uses (``id``, ``timestamp``, …).
        limit: the limit that was exceeded, if there is one.
    """

    def __init__(self, field: str, detail: str, limit: str | int | None = None) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail
        self.limit = limit


class DurabilityUnavailable(PermanentError):
    """This Redis does not support the durability."""


class UndecodableEntry(PermanentError):
    """An entry whose bytes are not a hit batch by the rules of codec.py."""


class EntryTooNew(PermanentError):
    """An entry written for a newer reader than this process."""


class Outcome(StrEnum):
    """What is known about a request that failed."""

    REFUSED = "refused"
    """Nothing was accepted: a retry counts the hits once."""
    UNKNOWN = "unknown"
    """The hits may have been accepted: only hits with an idempotency key can be retried safely."""


class TransientError(HitcounterError):
    """The same call may succeed later.

    Attributes:
        summary: what happened. Clients read it, so it contains no host, port or user.
        cause: the message of the server or library, which may contain these. It is for logs and `/readyz`; str(error)
            contains both.
    """

    def __init__(self, summary: str, *, cause: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"{summary} ({cause})" if cause else summary)
        self.summary = summary
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds


class StreamUnavailable(TransientError):
    """A request to Redis failed.

    Attributes:
        outcome: whether an entry that was being added may be in the stream after all.
        is_worth_retrying: False if a retry within a second cannot help (Redis is full or misconfigured).
    """

    def __init__(
        self,
        summary: str,
        *,
        cause: str = "",
        outcome: Outcome = Outcome.UNKNOWN,
        is_worth_retrying: bool = True,
        retry_after_seconds: float = 1.0,
    ) -> None:
        super().__init__(summary, cause=cause, retry_after_seconds=retry_after_seconds)
        self.outcome = outcome
        self.is_worth_retrying = is_worth_retrying


class IndexUnavailable(TransientError):
    """A request to Elasticsearch failed, although the request itself was valid.

    Attributes:
        status: the HTTP status; None if there was no response.
    """

    def __init__(
        self, summary: str, *, cause: str = "", status: int | None = None, retry_after_seconds: float = 1.0
    ) -> None:
        super().__init__(summary, cause=cause, retry_after_seconds=retry_after_seconds)
        self.status = status
