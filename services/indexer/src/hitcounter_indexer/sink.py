"""Where documents go: Elasticsearch's bulk API, one answer per document."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices, translated
from hitcounter.errors import IndexUnavailable

from hitcounter_indexer.documents import Action
from hitcounter_indexer.outcomes import INDEXED, ItemOutcome, ItemResult, read_item

_SINK_IS_BUSY_OR_AWAY: Final = (None, 429, 502, 503, 504)
"""The status of an answer that says nothing of the index; None where there was no answer."""
_BULK_HEADERS: Final = {"accept": "application/json", "content-type": "application/x-ndjson"}


class Sink(Protocol):
    """What the indexer needs of a place for documents; the unit ring has one that fails on demand."""

    async def write(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Create the documents and return one result each, in their order.

        Raises:
            IndexUnavailable: nothing is known of any of them, except that the request as a whole went wrong.
        """

    async def flush(self, indices: Collection[str]) -> None:
        """Have every document that these indices hold on disk.

        Raises:
            IndexUnavailable: that cannot be said.
        """


class ElasticsearchSink:
    """The real sink. Makes an index before its first document.

    Args:
        client: how to reach Elasticsearch.
        indices: what makes indices.
        request_timeout_seconds: how long the client waits for an answer.
    """

    def __init__(self, client: AsyncElasticsearch, indices: Indices, *, request_timeout_seconds: float = 30.0) -> None:
        self._client = client
        self._indices = indices
        self._bulk_parameters = {
            "require_alias": "true",
            # How long Elasticsearch may wait for a shard without an active primary: by default a minute, in which the
            # client gives up, and learns nothing of all the other documents.
            "timeout": f"{int(request_timeout_seconds * 1000 / 3)}ms",
            "filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by",
        }

    async def write(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one bulk (see Sink.write). Documents of an index that cannot be made or is not ours are held back."""
        indices = {action.index_name for action in actions}
        unfit = await self._find_unfit(indices)
        if not unfit:
            return await self._bulk(actions)
        written = iter(await self._bulk([action for action in actions if action.index_name not in unfit]))
        return [unfit.get(action.index_name) or next(written) for action in actions]

    async def _find_unfit(self, indices: Collection[str]) -> dict[str, ItemResult]:
        """Return the answer for the documents of each index that is not fit to be written to.

        Raises:
            IndexUnavailable: that cannot be said of any of them.
        """
        unfit: dict[str, ItemResult] = {}
        away: IndexUnavailable | None = None
        for index in indices:
            try:
                await self._indices.ensure([index])
            except IndexUnavailable as error:
                if error.status in _SINK_IS_BUSY_OR_AWAY:
                    away = error
                    unfit[index] = ItemResult(ItemOutcome.RETRY, "index_not_made", str(error))
                else:
                    unfit[index] = ItemResult(ItemOutcome.HOLD, "index_unfit", str(error))
        if away is not None and len(unfit) == len(indices):
            raise away
        return unfit

    async def _bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        if not actions:
            return []
        lines = [action.lines for action in actions]
        with translated("write documents"):
            # Not client.bulk: that is a PUT, which aiohttp sends again by itself when a connection breaks, so that we
            # would take the documents of the first attempt for a client's duplicates.
            answer = await self._client.perform_request(
                "POST", "/_bulk", params=self._bulk_parameters, headers=_BULK_HEADERS, body=[b"".join(lines)]
            )
        if answer["errors"] is False:
            return [INDEXED] * len(actions)
        results = [read_item(item["create"]) for item in answer["items"]]
        if len(results) != len(actions):
            raise IndexUnavailable(f"Elasticsearch answered for {len(results)} of {len(actions)} documents")
        return await self._doubt(actions, results)

    async def flush(self, indices: Collection[str]) -> None:
        """Flush the indices (see Sink.flush)."""
        await self._indices.flush(indices)

    async def _doubt(self, actions: Sequence[Action], results: list[ItemResult]) -> list[ItemResult]:
        """Look again at indices that are gone, or whose mapping may be why they reject documents.

        A document is only to blame where the mapping is the one we made; one whose index was lost can be written again
        as soon as that is made anew.
        """
        suspect = {
            action.index_name
            for action, result in zip(actions, results, strict=True)
            if result.is_index_lost or result.is_field_unknown or result.outcome is ItemOutcome.REJECT
        }
        for index in suspect:
            self._indices.forget(index)
        unfit = await self._find_unfit(suspect)
        return [_judge(result, unfit.get(action.index_name)) for action, result in zip(actions, results, strict=True)]


def _judge(result: ItemResult, unfit: ItemResult | None) -> ItemResult:
    """Return what to make of a result, knowing what is wrong with its index, if anything."""
    if result.is_index_lost:
        return unfit or ItemResult(ItemOutcome.RETRY, result.reason, "the index was lost, and made anew")
    if result.is_field_unknown:  # an older version made the index anew
        return unfit or result
    return unfit or result if result.outcome is ItemOutcome.REJECT else result
