"""Making and keeping indices: exactly ours or none, whoever else is at work on the same Elasticsearch."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS, HOUR_MS
from hitcounter.indices import (
    MAPPING,
    MAPPING_VERSION,
    TemplateCheck,
    TemplateState,
    build_index,
    build_template,
    index_of,
    template_name,
    write_alias,
)
from hitcounter.settings import ElasticsearchSettings, IndexSettings
from hitcounter_devstack import ElasticsearchServer, free_port

from tests.integration.stores.conftest import NOW_MS, TODAY, count
from tests.support.next_version import NEXT_MAPPING, next_mapping


@pytest.fixture
def today(name: str) -> str:
    return f"{name}-{TODAY}"


async def describe(client: AsyncElasticsearch, index: str) -> dict[str, Any]:
    described: dict[str, Any] = (await client.indices.get(index=index)).body[index]
    return described


async def template_of(client: AsyncElasticsearch, name: str) -> dict[str, Any]:
    answer = await client.indices.get_index_template(name=template_name(name))
    template: dict[str, Any] = answer["index_templates"][0]["index_template"]
    return template


# ── a day ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_day_is_created_with_exactly_our_mapping_settings_sort_and_aliases(
    client: AsyncElasticsearch, name: str, today: str
) -> None:
    await Indices(client, name, IndexSettings(shards=2, replicas=0)).ensure([today])
    described = await describe(client, today)
    assert described["mappings"] == MAPPING
    assert described["aliases"] == {name: {}, write_alias(today): {}}
    settings = described["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("2", "0")
    assert settings["refresh_interval"] == "30s"
    assert settings["sort"] == {"field": ["id", "timestamp"], "order": ["asc", "desc"]}


async def test_day_that_two_create_at_once_is_made_once_and_fine_for_both(
    client: AsyncElasticsearch, name: str, index_settings: IndexSettings, today: str
) -> None:
    everybody = [Indices(client, name, index_settings) for _ in range(5)]
    await asyncio.gather(*(indices.ensure([today]) for indices in everybody))
    assert (await describe(client, today))["mappings"] == MAPPING


async def test_day_that_is_there_is_left_as_it_is(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await indices.ensure([today])
    uuid = (await describe(client, today))["settings"]["index"]["uuid"]
    await Indices(client, name, IndexSettings(shards=5, replicas=0)).ensure([today])
    settings = (await describe(client, today))["settings"]["index"]
    assert (settings["uuid"], settings["number_of_shards"]) == (uuid, "1")


async def test_index_of_somebody_else_under_our_name_is_refused_with_the_reason_and_left_alone(
    client: AsyncElasticsearch, indices: Indices, today: str
) -> None:
    await client.indices.create(index=today, mappings={"properties": {"id": {"type": "text"}}})
    with pytest.raises(IndexUnavailable, match="not made by hitcounter"):
        await indices.ensure([today])
    described = await describe(client, today)
    assert described["mappings"] == {"properties": {"id": {"type": "text"}}}
    assert described["aliases"] == {}


async def test_index_of_ours_with_a_changed_field_is_refused_with_the_field(
    client: AsyncElasticsearch, indices: Indices, name: str, index_settings: IndexSettings, today: str
) -> None:
    body: Any = build_index(name, today, index_settings)
    mappings = {**body["mappings"], "properties": {**body["mappings"]["properties"], "id": {"type": "text"}}}
    await client.indices.create(index=today, mappings=mappings)
    with pytest.raises(IndexUnavailable, match="mapping of id differs"):
        await indices.ensure([today])


async def test_day_whose_aliases_somebody_removed_gets_them_back(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await indices.ensure([today])
    await client.indices.delete_alias(index=today, name="*")
    indices.forget(today)
    await indices.ensure([today])
    assert (await describe(client, today))["aliases"] == {name: {}, write_alias(today): {}}


async def test_day_is_checked_once_until_it_is_forgotten(
    client: AsyncElasticsearch, indices: Indices, today: str
) -> None:
    await indices.ensure([today])
    await client.indices.delete(index=today)
    await indices.ensure([today])
    assert not await client.indices.exists(index=today)
    indices.forget(today)
    await indices.ensure([today])
    assert await client.indices.exists(index=today)


async def test_elasticsearch_that_is_not_there_is_an_error_in_our_words(name: str) -> None:
    async with open_client(ElasticsearchSettings(url=f"http://127.0.0.1:{free_port()}")) as client:
        indices = Indices(client, name, IndexSettings())
        for doing in (indices.ensure([f"{name}-{TODAY}"]), indices.ensure_template(), indices.refresh([TODAY])):
            with pytest.raises(IndexUnavailable, match="does not answer") as caught:
                await doing
            assert caught.value.status is None


# ── the next version ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_days_that_an_older_version_made_serve_the_next_one_at_once_and_the_older_one_goes_on(
    client: AsyncElasticsearch, name: str, index_settings: IndexSettings, today: str
) -> None:
    tomorrow = f"{name}-2026.11.25"
    await Indices(client, name, index_settings).ensure([today, tomorrow])
    with next_mapping():
        for _ in range(2):  # the second time by another indexer: to add the same field again does no harm
            await Indices(client, name, index_settings).ensure([today, tomorrow])
    for day in (today, tomorrow):
        assert (await describe(client, day))["mappings"] == NEXT_MAPPING
        new = {"id": "1", "timestamp": NOW_MS, "n": 1, "accepted": 2}
        await client.index(index=write_alias(day), document=new)
        await Indices(client, name, index_settings).ensure([day])
        await client.index(index=write_alias(day), document={"id": "1", "timestamp": NOW_MS, "n": 1})
    assert await count(client, name) == 4
    assert (await describe(client, today))["mappings"] == NEXT_MAPPING


async def test_template_of_the_next_version_goes_over_that_of_this_one_and_stays(
    client: AsyncElasticsearch, indices: Indices, name: str
) -> None:
    await indices.ensure_template()
    with next_mapping():
        assert (await indices.ensure_template()).state is TemplateState.OLDER
    assert (await indices.ensure_template()).state is TemplateState.NEWER
    assert (await template_of(client, name))["template"]["mappings"] == NEXT_MAPPING


async def test_days_that_lack_a_field_of_the_next_version_are_no_fault(
    client: AsyncElasticsearch, indices: Indices, today: str
) -> None:
    await indices.ensure([today])
    with next_mapping():
        assert (await indices.repair()).faults == {}


async def test_day_of_a_newer_version_that_has_a_field_no_more_is_refused_and_left_alone(
    client: AsyncElasticsearch, indices: Indices, today: str
) -> None:
    without = {name: field for name, field in NEXT_MAPPING["properties"].items() if name != "n"}
    await client.indices.create(index=today, mappings={**NEXT_MAPPING, "properties": without})
    with pytest.raises(IndexUnavailable, match="newer version made it, without n"):
        await indices.ensure([today])
    assert (await describe(client, today))["mappings"]["properties"] == without


# ── what others do to a day ─────────────────────────────────────────────────────────────────────────────────────────


async def durability(client: AsyncElasticsearch, index: str) -> str | None:
    settings = (await describe(client, index))["settings"]["index"]
    return str(settings.get("translog", {}).get("durability"))


async def test_day_syncs_each_bulk_whatever_the_template_of_somebody_else_says(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await client.indices.put_index_template(
        name=f"stranger-{name}",
        index_patterns=[f"{name}-*"],
        priority=500,
        template={"settings": {"index.translog.durability": "async"}},
    )
    await indices.ensure([today])
    assert await durability(client, today) == "request"


@pytest.mark.parametrize("is_repaired", [True, False])
async def test_day_that_would_answer_before_it_syncs_is_repaired_by_the_next_check(
    client: AsyncElasticsearch, indices: Indices, today: str, is_repaired: bool
) -> None:
    await indices.ensure([today])
    await client.indices.put_settings(index=today, settings={"index.translog.durability": "async"})
    if is_repaired:
        assert (await indices.repair()).repaired == {today: ["set index.translog.durability to request"]}
    else:
        indices.forget(today)
        await indices.ensure([today])
    assert await durability(client, today) == "request"


async def test_index_that_is_called_like_the_alias_is_named_with_the_cause_that_elasticsearch_gives(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await client.indices.create(index=name)
    look = await indices.ensure_template()
    assert look.state is TemplateState.REFUSED
    assert "caused by" in look.refusal
    assert "same as" in look.refusal or "exists with the same name" in look.refusal
    with pytest.raises(IndexUnavailable, match="name"):
        await indices.ensure([today])


# ── the template ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_template_is_put_and_gives_a_day_that_somebody_else_creates_our_mapping(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await indices.ensure_template()
    await client.indices.create(index=today)
    described = await describe(client, today)
    assert described["mappings"] == MAPPING
    assert described["aliases"] == {name: {}}  # no write alias: we have not looked at it yet
    await indices.ensure([today])


async def put_template(client: AsyncElasticsearch, name: str, **changes: object) -> None:
    template: Any = {**build_template(name, IndexSettings(replicas=0)), **changes}
    await client.indices.put_index_template(name=template_name(name), **template)


async def test_template_that_agrees_is_not_put_again(indices: Indices) -> None:
    assert (await indices.ensure_template()).state is TemplateState.MISSING
    assert await indices.ensure_template() == TemplateCheck(TemplateState.SAME, [])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"priority": 1234}, "priority"),
        ({"index_patterns": ["others-*"]}, "index_patterns"),
        ({"template": {"mappings": MAPPING}}, "template.settings.index.sort.field"),
    ],
)
async def test_template_that_somebody_changed_is_put_back_and_the_change_reported(
    client: AsyncElasticsearch, indices: Indices, name: str, changes: dict[str, object], path: str
) -> None:
    await indices.ensure_template()
    await put_template(client, name, **changes)
    look = await indices.ensure_template()
    assert look.state is TemplateState.CHANGED
    assert path in look.differences
    assert (await indices.ensure_template()).state is TemplateState.SAME


async def test_template_of_a_newer_version_is_never_overwritten(
    client: AsyncElasticsearch, indices: Indices, name: str
) -> None:
    await put_template(client, name, version=99, _meta={"owner": "hitcounter", "settings": "of the future"})
    await indices.ensure_template()
    assert (await template_of(client, name))["version"] == 99


@pytest.mark.parametrize("changes", [{"version": 0}, {"version": None}, {"_meta": {}}])
async def test_template_that_is_older_or_of_other_settings_is_brought_up_to_date(
    client: AsyncElasticsearch, indices: Indices, name: str, changes: dict[str, object]
) -> None:
    await put_template(client, name, **changes)
    await indices.ensure_template()
    current = await template_of(client, name)
    assert current["version"] == MAPPING_VERSION
    assert current["_meta"]["settings"]["number_of_replicas"] == 0


async def test_template_that_somebody_else_keeps_out_is_reported_and_the_days_are_made_all_the_same(
    client: AsyncElasticsearch, indices: Indices, name: str, index_settings: IndexSettings, today: str
) -> None:
    ours: Any = build_template(name, index_settings)
    await client.indices.put_index_template(
        name=f"stranger-{name}", index_patterns=[f"{name}-*"], priority=ours["priority"]
    )
    look = await indices.ensure_template()
    assert look.state is TemplateState.REFUSED
    assert f"stranger-{name}" in look.refusal
    await indices.ensure([today])
    assert (await describe(client, today))["mappings"] == MAPPING


async def test_day_that_the_template_of_somebody_else_makes_a_data_stream_is_refused_with_the_reason(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await client.indices.put_index_template(
        name=f"stranger-{name}", index_patterns=[f"{name}-*"], priority=500, data_stream={}
    )
    await indices.ensure_template()
    with pytest.raises(IndexUnavailable, match="data stream"):
        await indices.ensure([today])


async def test_installations_with_overlapping_prefixes_share_an_elasticsearch(
    client: AsyncElasticsearch, name: str, index_settings: IndexSettings
) -> None:
    longer = f"{name}-eu"
    for prefix in (name, longer):
        await Indices(client, prefix, index_settings).ensure_template()
    await Indices(client, longer, index_settings).ensure([f"{longer}-{TODAY}"])
    aliases = (await describe(client, f"{longer}-{TODAY}"))["aliases"]
    assert aliases.keys() == {longer, f"{longer}-{TODAY}-write"}


# ── looking after what is there ─────────────────────────────────────────────────────────────────────────────────────


async def test_days_that_lost_an_alias_get_it_back_and_the_others_are_left_alone(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    sound = f"{name}-2026.11.25"
    await indices.ensure([today, sound])
    await client.indices.delete_alias(index=today, name=name)
    report = await indices.repair()
    assert (report.indices, report.faults) == ([today, sound], {})
    assert report.repaired == {today: [f"added the alias {name}"]}
    assert (await describe(client, today))["aliases"] == {name: {}, write_alias(today): {}}
    assert (await indices.repair()).repaired == {}


async def test_what_a_person_has_to_change_about_an_index_is_reported_and_not_touched(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    foreign = f"{name}-2026.11.25"
    await indices.ensure([today])
    await client.indices.create(index=foreign)
    await client.indices.create(index=f"{name}-notes")
    await client.indices.add_block(index=today, block="write")
    await client.indices.put_settings(index=today, settings={"index": {"final_pipeline": "mine"}})
    report = await indices.repair()
    assert report.indices == [today, foreign]
    assert report.faults == {
        today: "index.blocks.write is true and index.final_pipeline is mine",
        foreign: "it was not made by hitcounter",
    }
    assert (await describe(client, foreign))["aliases"] == {}


# ── refresh and flush ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_refresh_makes_documents_countable(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await indices.ensure([today])
    await client.indices.put_settings(index=today, settings={"index": {"refresh_interval": "-1"}})
    # So that a shard asleep does not refresh by itself now. Nobody waited for it: at first it may refuse searches.
    await client.options(max_retries=1000, retry_on_status=[503]).search(index=today)
    await client.index(index=today, document={"id": "1", "timestamp": NOW_MS, "n": 1})
    assert (await client.count(index=name))["count"] == 0
    await indices.refresh([today, f"{name}-2026.11.25"])
    assert (await client.count(index=name))["count"] == 1


async def test_refresh_of_days_that_are_not_there_is_no_fault(indices: Indices, today: str) -> None:
    await indices.refresh([today])


async def create_red(client: AsyncElasticsearch, index: str, **body: Any) -> None:
    """Make an index whose primary shard no node may have."""
    settings = {"number_of_replicas": 0, "routing.allocation.include._name": "nobody"}
    await client.indices.create(index=index, settings=settings, wait_for_active_shards=0, **body)


async def test_refresh_of_a_day_waits_for_no_other_index_and_for_no_foreign_index(
    elasticsearch: ElasticsearchServer, client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    """Issue 14, 13: `hits-*` waited for a stranger's red index, for another installation's, and for days long over."""
    await indices.ensure([today])
    await create_red(client, f"{name}-archive")
    await create_red(client, f"{name}-eu-{TODAY}", mappings=MAPPING)
    await create_red(client, f"{name}-2026.10.26", mappings=MAPPING)
    await create_red(client, f"{name}-2026.11.25")  # a stranger's, though it is called like one of our days
    async with open_client(ElasticsearchSettings(url=elasticsearch.url, timeout_seconds=10)) as hasty:
        refreshing = Indices(hasty, name, IndexSettings(replicas=0))
        for _ in range(2):
            await refreshing.refresh([f"{name}-2026.11.23", today, f"{name}-2026.11.25"])


async def test_refresh_of_a_day_without_its_shard_names_it(
    elasticsearch: ElasticsearchServer, client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await indices.ensure([today])
    await create_red(client, f"{name}-2026.11.23", mappings=MAPPING)
    async with open_client(ElasticsearchSettings(url=elasticsearch.url, timeout_seconds=2)) as hasty:
        with pytest.raises(IndexUnavailable, match=f"{name}-2026.11.23"):
            await Indices(hasty, name, IndexSettings()).refresh([f"{name}-2026.11.23", today])


async def test_index_is_made_without_waiting_for_shards_that_nobody_can_have(
    client: AsyncElasticsearch, name: str, today: str
) -> None:
    """Bulks with a document for this day would wait as long, and those of other days with them."""
    await client.cluster.put_settings(transient={"cluster.routing.allocation.enable": "none"})
    try:
        async with asyncio.timeout(10):
            await Indices(client, name, IndexSettings(replicas=0)).ensure([today])
    finally:
        await client.cluster.put_settings(transient={"cluster.routing.allocation.enable": None})


async def test_refresh_passes_over_closed_indices(
    client: AsyncElasticsearch, indices: Indices, name: str, today: str
) -> None:
    await indices.ensure([today, f"{name}-2026.11.25"])
    await client.indices.close(index=today)
    await indices.refresh([today, f"{name}-2026.11.25"])


async def test_flush_of_an_index_that_is_gone_is_an_error(indices: Indices, today: str) -> None:
    await indices.ensure([today])
    await indices.flush([today])
    with pytest.raises(IndexUnavailable, match="flush"):
        await indices.flush(["no-such-index"])


# ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def remaining(client: AsyncElasticsearch, name: str) -> set[str]:
    return set((await client.indices.get(index=f"{name}*", expand_wildcards="all")).body)


async def test_retention_drops_only_our_days_and_only_the_old_ones_be_they_open_or_closed(
    client: AsyncElasticsearch, indices: Indices, name: str
) -> None:
    tomorrow, youngest, old, older = (index_of(name, NOW_MS - age * DAY_MS) for age in (-1, 3, 4, 400))
    foreign = {
        f"{name}-2020.01.01": {},  # no marker
        f"{name}-2020.01.02-copy": MAPPING,  # another name
        f"{name}-eu-2020.01.01": MAPPING,  # another installation
    }
    await indices.ensure([tomorrow, youngest, old, older])
    for index, mapping in foreign.items():
        await client.indices.create(index=index, mappings=dict(mapping))
    await client.indices.close(index=older)

    before = await remaining(client, name)
    assert (await indices.drop_expired(NOW_MS, is_dry_run=True)).dropped == [older, old]
    assert await remaining(client, name) == before

    assert (await indices.drop_expired(NOW_MS)).dropped == [older, old]
    assert await remaining(client, name) == {tomorrow, youngest, *foreign}
    assert (await indices.drop_expired(NOW_MS)).dropped == []


async def test_retention_keeps_as_many_days_as_it_is_told_to(
    client: AsyncElasticsearch, indices: Indices, name: str
) -> None:
    days = [index_of(name, NOW_MS - age * DAY_MS) for age in range(4, 8)]
    await indices.ensure(days)
    keeping = Indices(client, name, IndexSettings(retention_days=6))
    report = await keeping.drop_expired(NOW_MS, is_dry_run=True)
    assert (report.kept, report.dropped) == (2, [days[3], days[2]])


async def test_retention_drops_no_day_that_is_not_over_by_the_clock_of_elasticsearch(
    client: AsyncElasticsearch, indices: Indices, name: str
) -> None:
    now_ms = time.time_ns() // 1_000_000
    today, old = index_of(name, now_ms - HOUR_MS), index_of(name, now_ms - 30 * DAY_MS)
    for others in ([], [today]):  # it names its day where there is no such index, and where there is one
        await indices.ensure([old, *others])
        report = await indices.drop_expired(now_ms + 10 * DAY_MS)
        indices.forget(old)
        assert (report.dropped, report.unexpired) == ([old], others)
    assert await remaining(client, name) == {today}
    assert (await indices.drop_expired(now_ms)).unexpired == []


async def test_retention_where_nothing_is_drops_nothing(indices: Indices) -> None:
    report = await indices.drop_expired(NOW_MS)
    assert (report.kept, report.dropped) == (0, [])
