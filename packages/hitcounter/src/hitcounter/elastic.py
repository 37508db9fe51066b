"""Elasticsearch: the client, its errors in our words, and the indices made and kept.

Apart from the API's counts.py and the indexer's sink.py nothing else imports elasticsearch. What an index looks like
is decided in indices.py; this module only carries it there and back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from elastic_transport.client_utils import DEFAULT
from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, NotFoundError, OrjsonSerializer, TransportError

from hitcounter.errors import IndexUnavailable
from hitcounter.indices import (
    TemplateLook,
    TemplateState,
    build_index,
    build_template,
    compare_template,
    day_of,
    expired_indices,
    find_mapping_fault,
    find_missing_aliases,
    find_obstacle,
    template_name,
)
from hitcounter.settings import ElasticsearchSettings, IndexSettings

_REASON_MAX_CHARACTERS: Final = 300
_BULK_WITHOUT_ERRORS: Final = b'{"errors":false'
"""How the answer to a bulk begins whose filter_path names `errors` first and leaves out what comes before."""


class _AnswerSerializer(OrjsonSerializer):
    """Reads no further into a bulk's answer than that it holds no error.

    Thousands of items that all say 201 need no parsing: it cost a microsecond for each document.
    """

    def loads(self, data: bytes) -> Any:
        """Return the JSON value."""
        return {"errors": False} if data.startswith(_BULK_WITHOUT_ERRORS) else super().loads(data)


@contextlib.asynccontextmanager
async def open_client(settings: ElasticsearchSettings, *, connections: int = 10) -> AsyncIterator[AsyncElasticsearch]:
    """Open a client that never retries by itself, and close it at the end. Connects when first used.

    Args:
        settings: where Elasticsearch is.
        connections: to each of its addresses; requests beyond wait for one, within their time-out.
    """
    password, api_key = settings.password, settings.api_key
    basic_auth = (settings.username, password.get_secret_value()) if settings.username and password else None
    client = AsyncElasticsearch(
        settings.url.split(","),
        basic_auth=None if api_key else basic_auth,
        api_key=api_key.get_secret_value() if api_key else None,
        ca_certs=settings.ca_file or DEFAULT,
        serializers={"application/json": _AnswerSerializer()},
        request_timeout=settings.timeout_seconds,
        connections_per_node=connections,
        max_retries=0,
        retry_on_timeout=False,
        http_compress=False,  # costs more processor time than it saves on the way to a near node
    )
    try:
        yield client
    finally:
        await client.close()


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the client's errors inside the block into IndexUnavailable."""
    try:
        yield
    except ApiError as error:
        raise IndexUnavailable(
            f"cannot {doing}: Elasticsearch answers {error.status_code}",
            cause=_describe(error),
            status=error.status_code,
        ) from error
    except TransportError as error:
        raise IndexUnavailable(
            f"cannot {doing}: Elasticsearch does not answer", cause=str(error)[:_REASON_MAX_CHARACTERS]
        ) from error


@dataclass(frozen=True, slots=True)
class IndicesReport:
    """What a look at the indices found and did."""

    indices: list[str]
    faults: dict[str, str]
    """What keeps hits out of an index, and takes a person to change."""
    mended: dict[str, list[str]]
    """The aliases that were added to an index."""


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What retention found and did."""

    kept: int
    dropped: list[str]


class Indices:
    """The indices of one installation: made explicitly, checked, refreshed, dropped when their days are over."""

    def __init__(self, client: AsyncElasticsearch, prefix: str, settings: IndexSettings) -> None:
        self._client = client
        self.prefix = prefix
        self._settings = settings
        self._checked: set[str] = set()

    async def ensure_template(self) -> TemplateLook:
        """Put the index template where it is not as it should be; return what was there before.

        Raises:
            IndexUnavailable: Elasticsearch is away, or refuses.
        """
        name = template_name(self.prefix)
        wanted = build_template(self.prefix, self._settings)
        with translated(f"put the index template {name}"):
            look = compare_template(await self._find_template(name), wanted)
            if look.state not in (TemplateState.SAME, TemplateState.NEWER):
                await self._client.indices.put_index_template(name=name, **wanted)  # type: ignore[arg-type]  # a plain body
        return look

    async def ensure(self, indices: Collection[str]) -> None:
        """Create those that are missing, and check the mapping of those that were there before; each only once.

        Raises:
            IndexUnavailable: Elasticsearch is away or refuses, or an index of this name is not fit for hits.
        """
        for index in indices:
            if index not in self._checked:
                await self._create_or_check(index)
                self._checked.add(index)

    def forget(self, index: str) -> None:
        """Look at this index again before the next write: what was found of it earlier no longer holds."""
        self._checked.discard(index)

    async def refresh(self) -> None:
        """Make every document that was written before this call countable.

        Raises:
            IndexUnavailable: not on all shards.
        """
        with translated("refresh the indices"):
            answer = await self._client.indices.refresh(index=f"{self.prefix}-*", expand_wildcards="open")
        _check_shards(answer["_shards"], "refresh the indices")

    async def flush(self, indices: Collection[str]) -> None:
        """Have every document that Elasticsearch holds in these indices on its disks.

        Raises:
            IndexUnavailable: not on all shards.
        """
        with translated("flush the indices"):
            answer = await self._client.indices.flush(index=sorted(indices), wait_if_ongoing=True)
        _check_shards(answer["_shards"], "flush the indices")

    async def mend(self) -> IndicesReport:
        """Look at every day's index that there is, and add the aliases that it lacks; say what else is wrong.

        Raises:
            IndexUnavailable: Elasticsearch is away or refuses.
        """
        with translated("look at the indices"):
            found = await self._client.indices.get(
                index=f"{self.prefix}-*", expand_wildcards="open,closed", flat_settings=True
            )
            days = {index: described for index, described in found.body.items() if day_of(self.prefix, index)}
            faults = {index: fault for index, described in days.items() if (fault := _find_fault(described))}
            mended = {
                index: missing
                for index, described in days.items()
                if index not in faults and (missing := find_missing_aliases(self.prefix, index, described["aliases"]))
            }
            for index, aliases in mended.items():
                await self._add_aliases(index, aliases)
        return IndicesReport(indices=sorted(days), faults=faults, mended=mended)

    async def drop_expired(
        self, now_ms: int, *, retention_days: int | None = None, is_dry_run: bool = False
    ) -> RetentionReport:
        """Drop the indices whose days are over, whole and only ours; say which.

        Args:
            now_ms: the present.
            retention_days: in place of the settings'.
            is_dry_run: only say which.

        Raises:
            IndexUnavailable: Elasticsearch is away or refuses.
        """
        with translated("apply retention"):
            found = await self._client.indices.get_mapping(index=f"{self.prefix}-*", expand_wildcards="open,closed")
            mappings = {index: described["mappings"] for index, described in found.body.items()}
            dropped = expired_indices(mappings, self.prefix, now_ms, retention_days or self._settings.retention_days)
            if not is_dry_run:
                for index in dropped:
                    await self._client.indices.delete(index=index, ignore_unavailable=True)
        return RetentionReport(kept=len(mappings) - len(dropped), dropped=dropped)

    async def _find_template(self, name: str) -> dict[str, Any] | None:
        try:
            answer = await self._client.indices.get_index_template(name=name)
        except NotFoundError:
            return None
        found: dict[str, Any] = answer["index_templates"][0]["index_template"]
        return found

    async def _create_or_check(self, index: str) -> None:
        with translated(f"create the index {index}"):
            try:
                await self._client.indices.create(index=index, **build_index(self.prefix, index, self._settings))  # type: ignore[arg-type]  # a plain body
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
                await self._check(index)

    async def _check(self, index: str) -> None:
        found = (await self._client.indices.get(index=index))[index]
        if fault := find_mapping_fault(found["mappings"]):
            raise IndexUnavailable(f"the index {index} is not fit for hits: {fault}; remove or rename it", status=409)
        if missing := find_missing_aliases(self.prefix, index, found["aliases"]):
            await self._add_aliases(index, missing)

    async def _add_aliases(self, index: str, aliases: Sequence[str]) -> None:
        actions = [{"add": {"index": index, "alias": alias}} for alias in aliases]
        await self._client.indices.update_aliases(actions=actions)


def _find_fault(described: Mapping[str, Any]) -> str | None:
    return find_mapping_fault(described["mappings"]) or find_obstacle(described["settings"])


def _check_shards(shards: Mapping[str, int], doing: str) -> None:
    """Refuse an answer that does not speak for every shard: one whose primary is away counts neither way."""
    if shards["failed"] or (shards["total"] and not shards["successful"]):
        raise IndexUnavailable(f"cannot {doing}: {shards['successful']} of {shards['total']} shards did")


def _describe(error: ApiError) -> str:
    reason = error.info
    if isinstance(error.info, dict) and isinstance(error.info.get("error"), dict):
        details = error.info["error"]
        reason = f"{details.get('type')}: {details.get('reason')}"
    return str(reason)[:_REASON_MAX_CHARACTERS]
