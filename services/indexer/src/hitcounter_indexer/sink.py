"""Writes documents with the bulk API of Elasticsearch; there is one result per document."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices, translate_elasticsearch_errors
from hitcounter.errors import IndexUnavailable

from hitcounter_indexer.documents import Action
from hitcounter_indexer.outcomes import INDEXED, ItemOutcome, ItemResult, read_item

_TRANSIENT_STATUSES: Final = (None, 429, 502, 503, 504)
"""Statuses that say nothing about the index; None if there was no response."""
_BULK_HEADERS: Final = {"accept": "application/json", "content-type": "application/x-ndjson"}


class Sink(Protocol):
    """What the indexer needs from a store of documents; the unit tests have one that fails on demand."""

    async def write(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Create the documents and return one result for each, in the same order.

        Raises:
            IndexUnavailable: the request failed as a whole; nothing is known about any document.
        """

    async def flush(self, indices: Collection[str]) -> None:
        """Write every document of these indices to disk.

        Raises:
            IndexUnavailable: it is not certain that they are on disk.
        """


class ElasticsearchSink:
    """The sink for Elasticsearch. It creates an index before its first document.

    Args:
        client: the Elasticsearch client.
        indices: creates indices.
        request_timeout_seconds: how long the client waits for a response.
    """

    def __init__(self, client: AsyncElasticsearch, indices: Indices, *, request_timeout_seconds: float = 30.0) -> None:
        self._client = client
        self._indices = indices
        self._bulk_parameters = {
            "require_alias": "true",
            # How long Elasticsearch waits for a shard without an active primary. The default is a minute: the client
            # would time out first, and would get no result for all the other documents (decision 30).
            "timeout": f"{int(request_timeout_seconds * 1000 / 3)}ms",
            "filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by",
        }

    async def write(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one bulk (see Sink.write). Documents of an index that cannot be created or is foreign are not sent."""
        indices = {action.index_name for action in actions}
        unusable = await self._find_unusable(indices)
        if not unusable:
            return await self._bulk(actions)
        written = iter(await self._bulk([action for action in actions if action.index_name not in unusable]))
        return [unusable.get(action.index_name) or next(written) for action in actions]

    async def _find_unusable(self, indices: Collection[str]) -> dict[str, ItemResult]:
        """Return the result for documents of each index that cannot be written to.

        Raises:
            IndexUnavailable: none of the indices could be checked.
        """
        unusable: dict[str, ItemResult] = {}
        unreachable: IndexUnavailable | None = None
        for index in indices:
            try:
                await self._indices.ensure([index])
            except IndexUnavailable as error:
                if error.status in _TRANSIENT_STATUSES:
                    unreachable = error
                    unusable[index] = ItemResult(ItemOutcome.RETRY, "index_not_made", str(error))
                else:
                    unusable[index] = ItemResult(ItemOutcome.HOLD, "index_unfit", str(error))
        if unreachable is not None and len(unusable) == len(indices):
            raise unreachable
        return unusable

    async def _bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        if not actions:
            return []
        lines = [action.lines for action in actions]
        with translate_elasticsearch_errors("write documents"):
            # Not client.bulk: it is a PUT, which is idempotent (RFC 9110, 9.2.2), so aiohttp sends it again by itself
            # when a connection breaks. Documents of the first attempt would then be counted as duplicates.
            answer = await self._client.perform_request(
                "POST", "/_bulk", params=self._bulk_parameters, headers=_BULK_HEADERS, body=[b"".join(lines)]
            )
        if answer["errors"] is False:
            return [INDEXED] * len(actions)
        results = [read_item(item["create"]) for item in answer["items"]]
        if len(results) != len(actions):
            raise IndexUnavailable(f"Elasticsearch answered for {len(results)} of {len(actions)} documents")
        return await self._recheck(actions, results)

    async def flush(self, indices: Collection[str]) -> None:
        """Flush the indices (see Sink.flush)."""
        await self._indices.flush(indices)

    async def _recheck(self, actions: Sequence[Action], results: list[ItemResult]) -> list[ItemResult]:
        """Check indices again that are missing, or whose mapping may be the reason for rejected documents.

        A document is invalid only if its index has our mapping. If its index was lost, it is retried after the index is
        created again.
        """
        suspect = {
            action.index_name
            for action, result in zip(actions, results, strict=True)
            if result.is_index_missing or result.is_field_unknown or result.outcome is ItemOutcome.REJECT
        }
        for index in suspect:
            self._indices.forget(index)
        unusable = await self._find_unusable(suspect)
        return [
            _resolve(result, unusable.get(action.index_name)) for action, result in zip(actions, results, strict=True)
        ]


def _resolve(result: ItemResult, unusable: ItemResult | None) -> ItemResult:
    """Return the final result of a document, given the fault of its index, if there is one."""
    if result.is_index_missing:
        return unusable or ItemResult(ItemOutcome.RETRY, result.reason, "the index was missing, and was created again")
    if result.is_field_unknown or result.outcome is ItemOutcome.REJECT:  # an older version may have created the index
        return unusable or result
    return result
