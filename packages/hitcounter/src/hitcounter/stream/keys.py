"""The names of the consumer group and of all keys of one installation in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROUP: Final = "indexers"


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys of one installation. The braces put them into one hash slot."""

    prefix: str

    @property
    def stream(self) -> str:
        """The stream of entries."""
        return f"{{{self.prefix}}}:hits"

    @property
    def ledger(self) -> str:
        """The hash with the four counters of the ledger."""
        return f"{{{self.prefix}}}:ledger"

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{{{self.prefix}}}:dead"

    @property
    def as_of(self) -> str:
        """The published as-of (completeness time), in milliseconds."""
        return f"{{{self.prefix}}}:as-of"

    @property
    def as_of_lease(self) -> str:
        """The lease: the name of the indexer that publishes the as-of now."""
        return f"{{{self.prefix}}}:as-of-lease"

    def producer(self, producer: bytes) -> str:
        """The last sequence accepted from a producer."""
        return f"{{{self.prefix}}}:producer:{producer.hex()}"
