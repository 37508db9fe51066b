"""What can go wrong, by what the caller should do about it.

    HitcounterError
    ├── ConfigurationError        stop at start, and say which setting to change
    ├── PermanentError            doing it again cannot help
    │   ├── InvalidHit            the client must change the hit
    │   ├── DurabilityUnavailable the client must ask for less, or an operator give Redis a newer version
    │   ├── UndecodableEntry      the entry becomes a dead letter
    │   └── EntryTooNew           the entry is left to a newer indexer
    └── TransientError            wait retry_after_seconds, then do it again
        ├── StreamUnavailable     Redis is away, full or misconfigured
        └── IndexUnavailable      Elasticsearch is away, slow, or refuses everybody

Errors of redis-py and elasticsearch-py are translated where they arise (redis_lane.py, stream.py, elastic.py) and
kept as the cause.
"""

from __future__ import annotations

from enum import StrEnum


class HitcounterError(Exception):
    """The root: catch it where any failure of ours ends the same way."""


class ConfigurationError(HitcounterError):
    """A setting or a server's configuration makes work impossible until a person changes it."""


class PermanentError(HitcounterError):
    """Doing the same again gives the same failure."""


class InvalidHit(PermanentError):
    """A hit that breaks a rule of hits.py.

    Attributes:
        field: the part of the hit that is wrong, as the client wrote it (``id``, ``timestamp``, …).
        limit: the bound that was crossed, where there is one.
    """

    def __init__(self, field: str, detail: str, limit: str | int | None = None) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail
        self.limit = limit


class DurabilityUnavailable(PermanentError):
    """A durability that this Redis cannot promise."""


class UndecodableEntry(PermanentError):
    """An entry whose bytes are not a hit batch by the rules of codec.py."""


class EntryTooNew(PermanentError):
    """An entry written for a newer reader than this process."""


class Outcome(StrEnum):
    """What is known of a request that failed."""

    REFUSED = "refused"
    """Nothing was taken: sending it again counts it once."""
    UNKNOWN = "unknown"
    """It may have been taken: only a hit with a key can be sent again safely."""


class TransientError(HitcounterError):
    """The same call may succeed later.

    Attributes:
        summary: what happened, in our own words. Clients read it, so it names no host, port or user.
        cause: the words of the server or of a library, which may name all of these: for logs and `/readyz`, where
            the error as a whole says both.
    """

    def __init__(self, summary: str, *, cause: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"{summary} ({cause})" if cause else summary)
        self.summary = summary
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds


class StreamUnavailable(TransientError):
    """Redis could not take or give what was asked.

    Attributes:
        outcome: whether an entry that was to be appended may be in the stream all the same.
        is_worth_retrying: False where trying again within a second cannot help (full, misconfigured).
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
    """Elasticsearch could not do what was asked, and the request itself was not at fault.

    Attributes:
        status: its HTTP status, or None where no answer came.
    """

    def __init__(
        self, summary: str, *, cause: str = "", status: int | None = None, retry_after_seconds: float = 1.0
    ) -> None:
        super().__init__(summary, cause=cause, retry_after_seconds=retry_after_seconds)
        self.status = status
