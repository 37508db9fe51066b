"""What somebody breaks is found, repaired and told; and what takes a person is said."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from tests.cluster.operator.installation import CORE, Installation
from tests.support.stack import wait_until


def elasticsearch(installation: Installation, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Ask Elasticsearch, past our code."""
    request = urllib.request.Request(
        f"{installation.stack.elasticsearch_url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def template(installation: Installation) -> dict[str, Any]:
    """Return the current index template."""
    path = f"/_index_template/hitcounter-{installation.name}"
    return dict(elasticsearch(installation, "GET", path)["index_templates"][0]["index_template"])


def make_day(installation: Installation, days_ago: int) -> str:
    """Make the index of a day as an indexer would have made it then; return its name."""
    name = f"{installation.name}-{datetime.now(UTC) - timedelta(days=days_ago):%Y.%m.%d}"
    elasticsearch(installation, "PUT", f"/{name}")  # the template gives it our mapping
    return name


def days(installation: Installation) -> set[str]:
    """Return the indices that there are."""
    return set(elasticsearch(installation, "GET", f"/{installation.name}-*"))


def test_template_changed_behind_its_back_is_put_back_and_the_change_is_named(installation: Installation) -> None:
    installation.run_operator()
    installation.create(mode="none")
    installation.wait_for(Ready="True AllWell")
    changed = template(installation)
    changed["template"]["settings"]["index"]["refresh_interval"] = "1h"
    for added in ("created_date_millis", "modified_date_millis"):
        changed.pop(added, None)
    elasticsearch(installation, "PUT", f"/_index_template/hitcounter-{installation.name}", changed)
    message = installation.wait_event("TemplateRepaired")
    assert "template.settings.index.refresh_interval" in message
    assert template(installation)["template"]["settings"]["index"]["refresh_interval"] == "30s"


def test_lost_alias_of_a_day_is_added_again(installation: Installation) -> None:
    installation.run_operator()
    installation.create(mode="none")
    installation.wait_for(Ready="True AllWell")
    day = make_day(installation, 1)
    assert f"{day}: added the alias {day}-write" in installation.wait_event("IndexRepaired")


def test_index_that_keeps_hits_out_is_a_condition_until_somebody_mends_it(installation: Installation) -> None:
    installation.run_operator()
    installation.create(mode="none")
    installation.wait_for(Ready="True AllWell")
    day = make_day(installation, 1)
    elasticsearch(installation, "PUT", f"/{day}/_settings", {"index.blocks.write": True})
    installation.wait_for(IndexReady="False IndexUnfit", Ready="False IndexUnfit")
    assert f"{day}: index.blocks.write is true" in installation.wait_event("IndexUnfit")
    elasticsearch(installation, "PUT", f"/{day}/_settings", {"index.blocks.write": None})
    installation.wait_for(Ready="True AllWell")
    assert installation.wait_event("IndexWell")


def test_event_that_comes_again_is_the_same_one_with_its_count_raised(installation: Installation) -> None:
    installation.run_operator()
    installation.create(mode="none")
    installation.wait_for(Ready="True AllWell")
    day = make_day(installation, 1)
    for _ in range(2):
        elasticsearch(installation, "PUT", f"/{day}/_settings", {"index.blocks.write": True})
        installation.wait_for(IndexReady="False IndexUnfit")
        elasticsearch(installation, "PUT", f"/{day}/_settings", {"index.blocks.write": None})
        installation.wait_for(Ready="True AllWell")

    def counts() -> dict[str, list[int]]:
        events = installation.kube.get(CORE, "events")["items"]
        return {
            reason: [event["count"] for event in events if event["reason"] == reason]
            for reason in ("IndexUnfit", "IndexWell")
        }

    wait_until(counts, lambda found: found == {"IndexUnfit": [2], "IndexWell": [2]})


def test_destroyed_consumer_group_is_made_anew_with_no_indexer_about(installation: Installation) -> None:
    with Redis.from_url(installation.stack.redis_url) as redis:
        stream = f"{{{installation.name}}}:hits"
        installation.run_operator()
        installation.create(mode="none")
        installation.wait_for(QueueReady="True QueueWell")
        redis.xgroup_destroy(stream, "indexers")
        assert "created again from the first entry on" in installation.wait_event("ConsumerGroupRepaired")
        assert [group["name"] for group in redis.xinfo_groups(stream)] == [b"indexers"]


def test_redis_away_is_a_condition_and_does_not_keep_the_indices_from_being_looked_after(
    installation: Installation,
) -> None:
    installation.deploy(replicas=3)
    installation.run_operator(HITCOUNTER_REDIS__URL="redis://127.0.0.1:1/0")
    installation.create()
    installation.wait_for(
        Ready="False RedisUnavailable",
        QueueReady="False RedisUnavailable",
        IndexReady="True IndexWell",
        AutoscalingActive="False MetricsUnknown",
    )
    assert installation.replicas() == 3
    assert installation.wait_event("RedisUnavailable")


def test_elasticsearch_away_is_a_condition_and_the_queue_is_watched_on(installation: Installation) -> None:
    installation.deploy()
    installation.run_operator(HITCOUNTER_ELASTICSEARCH__URL="http://127.0.0.1:1")
    installation.create(mode="observe")
    installation.wait_for(IndexReady="False ElasticsearchUnavailable", QueueReady="True QueueWell")
