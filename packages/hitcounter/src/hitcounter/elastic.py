"""Elasticsearch: the client, its errors in our words, and the indices made and kept.

Apart from the API's counts.py and the indexer's sink.py nothing else imports elasticsearch. What an index looks like
is decided in indices.py; this module only carries it there and back.
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
    TemplateLook,
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
    find_obstacle,
    is_durable,
    template_name,
)
from hitcounter.reasons import SUPPORTED, describe_answer, find_unsupported, shorten
from hitcounter.settings import ElasticsearchSettings, IndexSettings, variable_name

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

    Raises:
        ConfigurationError: no client can be made from these settings.
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
        http_compress=False,  # costs more processor time than it saves on the way to a near node
    )


def _encode_basic_auth(settings: ElasticsearchSettings) -> str | None:
    """Return user and password in base64, as UTF-8 (RFC 7617, section 2.1): the client itself takes only ASCII."""
    if settings.username is None or settings.password is None:
        return None
    return base64.b64encode(f"{settings.username}:{settings.password.get_secret_value()}".encode()).decode()


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the client's errors inside the block into IndexUnavailable."""
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
    """What a look at the indices found and did."""

    indices: list[str]
    faults: dict[str, str]
    """What keeps hits out of an index, and takes a person to change."""
    mended: dict[str, list[str]]
    """What was done about an index, such as `added the alias hits`."""


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What retention found and did."""

    kept: int
    dropped: list[str]
    doubtful: list[str] = field(default_factory=list)
    """Kept although their days are over by our clock: they are not by Elasticsearch's."""


class Indices:
    """The indices of one installation: made explicitly, checked, refreshed, dropped when their days are over."""

    def __init__(self, client: AsyncElasticsearch, prefix: str, settings: IndexSettings) -> None:
        self._client = client
        self.prefix = prefix
        self._settings = settings
        self._checked: set[str] = set()
        self._has_met_stranger = False

    async def ensure_template(self) -> TemplateLook:
        """Put the index template where it is not as it should be; return what was there before.

        A template that Elasticsearch does not take is returned as such and is no error: it is a second net.

        Raises:
            IndexUnavailable: Elasticsearch is away, or has too much to do.
        """
        name = template_name(self.prefix)
        wanted = build_template(self.prefix, self._settings)
        look = TemplateLook(TemplateState.MISSING, [])
        try:
            async with self._calling(f"put the index template {name}"):
                look = compare_template(await self._find_template(name), wanted)
                if look.state not in (TemplateState.SAME, TemplateState.NEWER):
                    await self._client.indices.put_index_template(name=name, **wanted)  # type: ignore[arg-type]  # a plain body
        except IndexUnavailable as error:
            if error.status not in _REFUSALS:
                raise
            return TemplateLook(TemplateState.REFUSED, look.differences, str(error))
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

    async def refresh(self, days: Collection[str]) -> None:
        """Make every document countable that was written to these indices before, as far as they are there and ours.

        Raises:
            IndexUnavailable: not on all shards of one of them, which it names.
        """
        ours = set(days)
        if self._has_met_stranger:
            ours -= await self._find_strangers(ours)
        try:
            await self._refresh_each(ours)
        except IndexUnavailable as error:
            try:
                strangers = await self._find_strangers(ours)
            except IndexUnavailable:
                raise error from None  # it says more
            if not strangers:
                raise
            await self._refresh_each(ours - strangers)

    async def _refresh_each(self, days: Collection[str]) -> None:
        """Refresh all, also if one of them has to be waited for."""
        ends = await asyncio.gather(*[self._refresh_one(day) for day in sorted(days)], return_exceptions=True)
        if failures := [end for end in ends if end is not None]:
            raise failures[0]

    async def _refresh_one(self, day: str) -> None:
        doing = f"refresh the index {day}"
        async with self._calling(doing):
            answer = await self._client.indices.refresh(index=day, ignore_unavailable=True)
        _check_shards(answer["_shards"], doing)

    async def _find_strangers(self, days: Collection[str]) -> set[str]:
        """Return those that are there and not ours; they are looked for anew as long as there are any."""
        async with self._calling("look at the indices"):
            found = await self._client.indices.get_mapping(index=sorted(days), ignore_unavailable=True)
        owners = {index: described["mappings"].get("_meta", {}).get("owner") for index, described in found.items()}
        strangers = {index for index, owner in owners.items() if owner != OWNER}
        self._has_met_stranger = bool(strangers)
        return strangers

    async def flush(self, indices: Collection[str]) -> None:
        """Have every document that Elasticsearch holds in these indices on its disks.

        Raises:
            IndexUnavailable: not on all shards.
        """
        # One by one: the answer adds the shards of all indices up, so that a shard without any copy, which is counted
        # neither as successful nor as failed, could not be told from replicas that are nowhere.
        for index in sorted(indices):
            doing = f"flush the index {index}"
            async with self._calling(doing):
                answer = await self._client.indices.flush(index=index, wait_if_ongoing=True)
                shards = answer["_shards"]
                _check_shards(shards, doing)
                if shards["successful"] < shards["total"]:
                    await self._check_primaries(index, shards, doing)

    async def mend(self) -> IndicesReport:
        """Look at every day's index that there is, and repair what can be; say what else is wrong.

        Raises:
            IndexUnavailable: Elasticsearch is away or refuses.
        """
        async with self._calling("look at the indices"):
            found = await self._client.indices.get(
                index=f"{self.prefix}-*", expand_wildcards="open,closed", flat_settings=True
            )
            days = {index: described for index, described in found.body.items() if day_of(self.prefix, index)}
            faults = {index: fault for index, described in days.items() if (fault := _find_fault(described))}
            mended = {
                index: done
                for index, described in days.items()
                if index not in faults and (done := await self._repair(index, described))
            }
        return IndicesReport(indices=sorted(days), faults=faults, mended=mended)

    async def drop_expired(
        self, now_ms: int, *, retention_days: int | None = None, is_dry_run: bool = False
    ) -> RetentionReport:
        """Drop the indices whose days are over, whole and only ours; say which.

        A day has to be over by Elasticsearch's clock, too.

        Args:
            now_ms: the present, by the earliest of the clocks that are known.
            retention_days: in place of the settings'.
            is_dry_run: only say which.

        Raises:
            IndexUnavailable: Elasticsearch is away or refuses.
        """
        days = retention_days or self._settings.retention_days
        async with self._calling("apply retention"):
            found = await self._client.indices.get_mapping(index=f"{self.prefix}-*", expand_wildcards="open,closed")
            mappings = {index: described["mappings"] for index, described in found.body.items()}
            dropped = expired_indices(mappings, self.prefix, now_ms, days)
            if dropped:
                dropped = expired_indices(mappings, self.prefix, min(now_ms, await self._ask_time()), days)
            surely_over = expired_indices(mappings, self.prefix, now_ms - CLOCK_TOLERANCE_MS, days)
            if not is_dry_run:
                for index in dropped:
                    await self._client.indices.delete(index=index, ignore_unavailable=True)
        doubtful = [index for index in surely_over if index not in dropped]
        return RetentionReport(len(mappings) - len(dropped), dropped, doubtful)

    async def _ask_time(self) -> int:
        """Return the earliest time that Elasticsearch's clock may show, to the day.

        It resolves a name with date math in it; privileges for the indices alone are enough for that.
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
        async with self._calling(f"create the index {index}"):
            try:
                body = build_index(self.prefix, index, self._settings)
                # Not to wait for its shards: where none can be allocated, that concerns the hits of this day alone.
                await self._client.indices.create(index=index, wait_for_active_shards=0, **body)  # type: ignore[arg-type]  # a plain body
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
                await self._check(index)

    async def _check(self, index: str) -> None:
        found = (await self._client.indices.get(index=index, flat_settings=True))[index]
        if fault := find_mapping_fault(found["mappings"]):
            raise IndexUnavailable(f"the index {index} is not fit for hits: {fault}; remove or rename it", status=409)
        await self._repair(index, found)
        await self._add_fields(index, found["mappings"])

    async def _add_fields(self, index: str, mapping: Mapping[str, Any]) -> None:
        """Add the fields that an older version did not know. Whoever does the same meanwhile does no harm."""
        if missing := find_missing_fields(mapping):
            await self._client.indices.put_mapping(index=index, properties=missing, meta=find_newer_meta(mapping))

    async def _repair(self, index: str, described: Mapping[str, Any]) -> list[str]:
        """Add the aliases that an index of ours lacks, and take back what lets it lose documents; say what was done."""
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
        """Refuse where some copies were missing and it is not sure that each shard had another one."""
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
    async def _calling(self, doing: str) -> AsyncIterator[None]:
        """Translate errors, and name the server where it is none that is supported."""
        try:
            with translated(doing):
                yield
        except IndexUnavailable as error:
            if _may_be_foreign(error.__cause__) and (what := await self._find_unsupported()):
                raise IndexUnavailable(f"cannot {doing}: {what}", status=error.status) from error.__cause__
            raise

    async def _find_unsupported(self) -> str | None:
        # Any media type: that of the client is for Elasticsearch 8 and 9 alone, and others refuse it.
        try:
            answer = await self._client.perform_request("GET", "/", headers={"accept": "*/*"})
            return find_unsupported(answer.body)
        except UnsupportedProductError as error:
            return find_unsupported(error.body)
        except (ApiError, TransportError):
            return None


_REFUSALS: Final = (400, 401, 403, 405, 406)
"""Answers that are the same each time: no privilege, a template of a stranger in the way, a rule of Elasticsearch."""


def _may_be_foreign(cause: BaseException | None) -> bool:
    """Tell whether a failure looks like that of a server that our client does not speak to."""
    if isinstance(cause, UnsupportedProductError):
        return True
    return isinstance(cause, ApiError) and (cause.status_code == 406 or "media_type_header" in str(cause.body))


def _find_fault(described: Mapping[str, Any]) -> str | None:
    return find_mapping_fault(described["mappings"]) or find_obstacle(described["settings"])


def _check_shards(shards: Mapping[str, int], doing: str) -> None:
    """Refuse an answer that does not speak for every shard: one whose primary is away counts neither way."""
    if shards["failed"] or (shards["total"] and not shards["successful"]):
        raise IndexUnavailable(f"cannot {doing}: {shards['successful']} of {shards['total']} shards did")
