"""Elasticsearch: the client, the translation of its errors, and the management of indices.

Only this module, counts.py of the API and sink.py of the indexer import elasticsearch. indices.py decides what an index
looks like; this module sends that to Elasticsearch and reads it back.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from elastic_transport.client_utils import DEFAULT
from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    BadRequestError,
    NotFoundError,
    OrjsonSerializer,
    TransportError,
    UnsupportedProductError,
)

from hitcounter.errors import ConfigurationError, IndexUnavailable
from hitcounter.indices import (
    CLOCK_TOLERANCE_MS,
    DURABLE_SETTINGS,
    OWNER,
    TemplateCheck,
    TemplateState,
    build_index,
    build_template,
    compare_template,
    day_of,
    earliest_ms,
    elasticsearch_day_name,
    expired_indices,
    find_mapping_fault,
    find_missing_aliases,
    find_missing_fields,
    find_newer_meta,
    find_write_block,
    is_durable,
    template_name,
)
from hitcounter.reasons import SUPPORTED, describe_answer, find_unsupported, shorten
from hitcounter.settings import ElasticsearchSettings, IndexSettings, variable_name

_BULK_WITHOUT_ERRORS: Final = b'{"errors":false'
"""The beginning of a bulk response without errors, when filter_path selects `errors` as the first field."""


class _AnswerSerializer(OrjsonSerializer):
    """Does not parse a bulk response that contains no error.

    Parsing thousands of items that all have status 201 costs a microsecond for each document.
    """

    def loads(self, data: bytes) -> Any:
        """Return the JSON value."""
        return {"errors": False} if data.startswith(_BULK_WITHOUT_ERRORS) else super().loads(data)


@contextlib.asynccontextmanager
async def open_client(settings: ElasticsearchSettings, *, connections: int = 10) -> AsyncIterator[AsyncElasticsearch]:
    """Open a client that never retries by itself; close it at the end. It connects at first use.

    Args:
        settings: where Elasticsearch is.
        connections: maximum number of connections per address; further requests wait, within their timeout.

    Raises:
        ConfigurationError: no client can be created with these settings.
    """
    try:
        client = _build_client(settings, connections)
    except (TypeError, ValueError, OSError) as error:
        # Its text may contain a password.
        name, variable = type(error).__name__, variable_name("elasticsearch", "url")
        raise ConfigurationError(f"{variable}: cannot be used with these settings ({name})") from error
    try:
        yield client
    finally:
        await client.close()


def _build_client(settings: ElasticsearchSettings, connections: int) -> AsyncElasticsearch:
    api_key = settings.api_key
    return AsyncElasticsearch(
        settings.url.split(","),
        basic_auth=None if api_key else _encode_basic_auth(settings),
        api_key=api_key.get_secret_value() if api_key else None,
        ca_certs=settings.ca_file or DEFAULT,
        client_cert=settings.cert_file or DEFAULT,
        client_key=settings.key_file or DEFAULT,
        serializers={"application/json": _AnswerSerializer()},
        request_timeout=settings.timeout_seconds,
        connections_per_node=connections,
        max_retries=0,
        retry_on_timeout=False,
        http_compress=False,  # costs more CPU than it saves on a fast network
    )


def _encode_basic_auth(settings: ElasticsearchSettings) -> str | None:
    """Return user and password in base64, as UTF-8 (RFC 7617, section 2.1): the client itself accepts only ASCII."""
    if settings.username is None or settings.password is None:
        return None
    return base64.b64encode(f"{settings.username}:{settings.password.get_secret_value()}".encode()).decode()


@contextlib.contextmanager
def translate_elasticsearch_errors(doing: str) -> Iterator[None]:
    """Convert errors of the client inside the block to IndexUnavailable."""
    try:
        yield
    except UnsupportedProductError as error:
        raise IndexUnavailable(
            f"cannot {doing}: the server is no Elasticsearch by the headers of its answers; {SUPPORTED}",
            status=error.status_code,
        ) from error
    except ApiError as error:
        summary, cause = describe_answer(error.status_code, error.body)
        raise IndexUnavailable(f"cannot {doing}: {summary}", cause=cause, status=error.status_code) from error
    except TransportError as error:
        raise IndexUnavailable(f"cannot {doing}: Elasticsearch does not answer", cause=shorten(str(error))) from error


@dataclass(frozen=True, slots=True)
class IndicesReport:
    """What a check of the indices found and repaired."""

    indices: list[str]
    faults: dict[str, str]
    """Why hits cannot be written to an index. A person has to change it."""
    repaired: dict[str, list[str]]
    """What was repaired, such as `added the alias hits`, by index."""


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """Which indices retention kept and deleted."""

    kept: int
    dropped: list[str]
    unexpired: list[str] = field(default_factory=list)
    """Kept although they have expired by our clock: they have not by the clock of Elasticsearch."""


class Indices:
    """The indices of one installation: creates, checks, refreshes and deletes them."""

    def __init__(self, client: AsyncElasticsearch, prefix: str, settings: IndexSettings) -> None:
        self._client = client
        self.prefix = prefix
        self._settings = settings
        self._checked: set[str] = set()
        self._has_met_foreign = False

    async def ensure_template(self) -> TemplateCheck:
        """Create or update the index template if needed; return what was there before.

        If Elasticsearch refuses the template, the state is REFUSED and no error is raised: indices are complete without
        a template.

        Raises:
            IndexUnavailable: Elasticsearch is down or overloaded.
        """
        name = template_name(self.prefix)
        wanted = build_template(self.prefix, self._settings)
        check = TemplateCheck(TemplateState.MISSING, [])
        try:
            async with self._translating(f"put the index template {name}"):
                check = compare_template(await self._find_template(name), wanted)
                if check.state not in (TemplateState.SAME, TemplateState.NEWER):
                    await self._client.indices.put_index_template(name=name, **wanted)  # type: ignore[arg-type]  # a plain body
        except IndexUnavailable as error:
            if error.status not in _REFUSALS:
                raise
            return TemplateCheck(TemplateState.REFUSED, check.differences, str(error))
        return check

    async def ensure(self, indices: Collection[str]) -> None:
        """Create missing indices and check the mapping of existing ones; each index only once.

        Raises:
            IndexUnavailable: Elasticsearch is down or refuses, or an existing index of this name cannot take hits.
        """
        for index in indices:
            if index not in self._checked:
                await self._create_or_check(index)
                self._checked.add(index)

    def forget(self, index: str) -> None:
        """Check this index again before the next write, because it may have changed."""
        self._checked.discard(index)

    async def refresh(self, days: Collection[str]) -> None:
        """Make every document countable that was written to these indices before. Missing and foreign ones are skipped.

        Raises:
            IndexUnavailable: the refresh did not reach all shards of an index. The message names the index.
        """
        ours = set(days)
        if self._has_met_foreign:
            ours -= await self._find_foreign(ours)
        try:
            await self._refresh_each(ours)
        except IndexUnavailable as error:
            try:
                foreign = await self._find_foreign(ours)
            except IndexUnavailable:
                raise error from None  # it says more
            if not foreign:
                raise
            await self._refresh_each(ours - foreign)

    async def _refresh_each(self, days: Collection[str]) -> None:
        """Refresh all at once, so that one that takes long does not delay the others."""
        outcomes = await asyncio.gather(*[self._refresh_one(day) for day in sorted(days)], return_exceptions=True)
        if failures := [outcome for outcome in outcomes if outcome is not None]:
            raise failures[0]

    async def _refresh_one(self, day: str) -> None:
        doing = f"refresh the index {day}"
        async with self._translating(doing):
            answer = await self._client.indices.refresh(index=day, ignore_unavailable=True)
        _check_shards(answer["_shards"], doing)

    async def _find_foreign(self, days: Collection[str]) -> set[str]:
        """Return the existing indices that are not ours. While there are any, each refresh checks again."""
        async with self._translating("check the indices"):
            found = await self._client.indices.get_mapping(index=sorted(days), ignore_unavailable=True)
        owners = {index: described["mappings"].get("_meta", {}).get("owner") for index, described in found.items()}
        foreign = {index for index, owner in owners.items() if owner != OWNER}
        self._has_met_foreign = bool(foreign)
        return foreign

    async def flush(self, indices: Collection[str]) -> None:
        """Write every document of these indices to disk.

        Raises:
            IndexUnavailable: the flush did not reach all shards.
        """
        # One index at a time: the response adds up the shards of all indices. A shard without any copy counts neither
        # as successful nor as failed, so it would look like an unassigned replica.
        for index in sorted(indices):
            doing = f"flush the index {index}"
            async with self._translating(doing):
                answer = await self._client.indices.flush(index=index, wait_if_ongoing=True)
                shards = answer["_shards"]
                _check_shards(shards, doing)
                if shards["successful"] < shards["total"]:
                    await self._check_primaries(index, shards, doing)

    async def repair(self) -> IndicesReport:
        """Check every existing index, repair what can be repaired, and report other faults.

        Raises:
            IndexUnavailable: Elasticsearch is down or refuses.
        """
        async with self._translating("check the indices"):
            found = await self._client.indices.get(
                index=f"{self.prefix}-*", expand_wildcards="open,closed", flat_settings=True
            )
            days = {index: described for index, described in found.body.items() if day_of(self.prefix, index)}
            faults = {index: fault for index, described in days.items() if (fault := _find_fault(described))}
            repaired = {
                index: done
                for index, described in days.items()
                if index not in faults and (done := await self._repair_index(index, described))
            }
        return IndicesReport(indices=sorted(days), faults=faults, repaired=repaired)

    async def drop_expired(self, now_ms: int, *, is_dry_run: bool = False) -> RetentionReport:
        """Delete expired indices, as a whole and only our own; return which.

        An index must be expired by the clock of Elasticsearch, too (decision 33).

        Args:
            now_ms: the current time, by the earliest of the known clocks.
            is_dry_run: only report them.

        Raises:
            IndexUnavailable: Elasticsearch is down or refuses.
        """
        days = self._settings.retention_days
        async with self._translating("apply retention"):
            found = await self._client.indices.get_mapping(index=f"{self.prefix}-*", expand_wildcards="open,closed")
            mappings = {index: described["mappings"] for index, described in found.body.items()}
            dropped = expired_indices(mappings, self.prefix, now_ms, days)
            if dropped:
                dropped = expired_indices(mappings, self.prefix, min(now_ms, await self._ask_time()), days)
            surely_over = expired_indices(mappings, self.prefix, now_ms - CLOCK_TOLERANCE_MS, days)
            if not is_dry_run:
                for index in dropped:
                    await self._client.indices.delete(index=index, ignore_unavailable=True)
        unexpired = [index for index in surely_over if index not in dropped]
        return RetentionReport(len(mappings) - len(dropped), dropped, unexpired)

    async def _ask_time(self) -> int:
        """Return the earliest time that the clock of Elasticsearch may show, to the day.

        Elasticsearch resolves an index name with date math. That needs no privileges beyond those for the indices.
        """
        try:
            answer = await self._client.indices.get_mapping(index=elasticsearch_day_name(self.prefix))
            names: list[object] = list(answer.body)
        except NotFoundError as error:
            names = [error.info["error"].get("index")]
        times = [time_ms for name in names if (time_ms := earliest_ms(self.prefix, str(name))) is not None]
        if not times:
            raise IndexUnavailable(f"cannot apply retention: Elasticsearch does not tell its day ({names})")
        return min(times)

    async def _find_template(self, name: str) -> dict[str, Any] | None:
        try:
            answer = await self._client.indices.get_index_template(name=name)
        except NotFoundError:
            return None
        found: dict[str, Any] = answer["index_templates"][0]["index_template"]
        return found

    async def _create_or_check(self, index: str) -> None:
        async with self._translating(f"create the index {index}"):
            try:
                body = build_index(self.prefix, index, self._settings)
                # Do not wait for its shards: if none can be allocated, this concerns only the hits of this day.
                await self._client.indices.create(index=index, wait_for_active_shards=0, **body)  # type: ignore[arg-type]  # a plain body
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
                await self._check(index)

    async def _check(self, index: str) -> None:
        found = (await self._client.indices.get(index=index, flat_settings=True))[index]
        if fault := find_mapping_fault(found["mappings"]):
            raise IndexUnavailable(f"the index {index} is not fit for hits: {fault}; remove or rename it", status=409)
        await self._repair_index(index, found)
        await self._add_fields(index, found["mappings"])

    async def _add_fields(self, index: str, mapping: Mapping[str, Any]) -> None:
        """Add the fields that an older version did not have (decision 32). Several processes may do this at once."""
        if missing := find_missing_fields(mapping):
            await self._client.indices.put_mapping(index=index, properties=missing, meta=find_newer_meta(mapping))

    async def _repair_index(self, index: str, described: Mapping[str, Any]) -> list[str]:
        """Add missing aliases, and reset settings with which documents can be lost; return what was done."""
        missing = find_missing_aliases(self.prefix, index, described["aliases"])
        if missing:
            actions = [{"add": {"index": index, "alias": alias}} for alias in missing]
            await self._client.indices.update_aliases(actions=actions)
        done = [f"added the alias {alias}" for alias in missing]
        if not is_durable(described["settings"]):
            await self._client.indices.put_settings(index=index, settings=DURABLE_SETTINGS)
            done += [f"set {name} to {value}" for name, value in DURABLE_SETTINGS.items()]
        return done

    async def _check_primaries(self, index: str, shards: Mapping[str, int], doing: str) -> None:
        """Raise if some copies were missing and it is not certain that each shard had a copy."""
        stats = await self._client.indices.stats(index=index, metric="docs", level="shards")
        copies = stats["indices"].get(index, {}).get("shards", {}).values()
        primaries = sum(any(copy["routing"]["primary"] for copy in one) for one in copies)
        settings = await self._client.indices.get_settings(
            index=index, name="index.number_of_shards", flat_settings=True
        )
        wanted = int(settings[index]["settings"]["index.number_of_shards"])
        if min(primaries, shards["successful"]) < wanted:
            raise IndexUnavailable(f"cannot {doing}: {primaries} of {wanted} primary shards are there")

    @contextlib.asynccontextmanager
    async def _translating(self, doing: str) -> AsyncIterator[None]:
        """Translate errors; if the server is not a supported one, name it in the message."""
        try:
            with translate_elasticsearch_errors(doing):
                yield
        except IndexUnavailable as error:
            if _may_be_foreign(error.__cause__) and (what := await self._find_unsupported()):
                raise IndexUnavailable(f"cannot {doing}: {what}", status=error.status) from error.__cause__
            raise

    async def _find_unsupported(self) -> str | None:
        # Any media type, because servers other than Elasticsearch 8 and 9 refuse the client's own.
        try:
            answer = await self._client.perform_request("GET", "/", headers={"accept": "*/*"})
            return find_unsupported(answer.body)
        except UnsupportedProductError as error:
            return find_unsupported(error.body)
        except (ApiError, TransportError):
            return None


_REFUSALS: Final = (400, 401, 403, 405, 406)
"""Statuses that a retry cannot change: a missing privilege, a conflicting template, a rule of Elasticsearch."""


def _may_be_foreign(cause: BaseException | None) -> bool:
    """Return whether the failure looks like that of a server that our client does not support."""
    if isinstance(cause, UnsupportedProductError):
        return True
    return isinstance(cause, ApiError) and (cause.status_code == 406 or "media_type_header" in str(cause.body))


def _find_fault(described: Mapping[str, Any]) -> str | None:
    return find_mapping_fault(described["mappings"]) or find_write_block(described["settings"])


def _check_shards(shards: Mapping[str, int], doing: str) -> None:
    """Raise if not every shard succeeded. A shard without a primary counts neither as successful nor as failed."""
    if shards["failed"] or (shards["total"] and not shards["successful"]):
        raise IndexUnavailable(f"cannot {doing}: {shards['successful']} of {shards['total']} shards did")
