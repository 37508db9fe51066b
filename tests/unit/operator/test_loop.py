"""The loop over fakes: what is there is followed, what fails is said, and nothing is said twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hitcounter.elastic import IndicesReport
from hitcounter.indices import TemplateCheck, TemplateState
from hitcounter.ledger import IndexerWork, Ledger
from hitcounter_operator.cluster import ClusterUnavailable
from hitcounter_operator.state import Deployment

from tests.unit.operator.fakes import NAME, Site


async def test_nothing_is_done_while_there_is_no_resource(site: Site) -> None:
    site.cluster.spec = None
    await site.turns(3)
    assert (site.cluster.statuses, site.cluster.events, site.indices.looks) == ([], [], 0)


async def test_well_site_is_ready_after_two_looks_and_quiet_from_then_on(site: Site) -> None:
    await site.turns(2)
    assert site.cluster.conditions == {
        "Ready": "True AllWell",
        "QueueReady": "True QueueWell",
        "IndexReady": "True IndexWell",
        "AutoscalingActive": "True Scaling",
        "ScalingLimited": "False AtMinimum",
        "SinkThrottled": "False NoPushBack",
    }
    written = len(site.cluster.statuses)
    await site.turns(50)
    assert len(site.cluster.statuses) == written
    assert site.cluster.events == []


# ── scaling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_backlog_scales_up_at_once_with_one_event_that_tells_the_terms(site: Site) -> None:
    await site.turns(2)
    site.arrive(60_000)
    await site.turn()
    assert site.cluster.scaled == [20]
    (event,) = [event for event in site.cluster.events if event["reason"] == "Scaled"]
    assert event["message"].startswith("Scaled 1 → 20: demand 17.1 + catch-up 2.0 + dead time ")
    assert "limited to 20 by maxReplicas" in event["message"]
    assert site.cluster.status["desiredReplicas"] == 20
    assert site.cluster.status["decision"].startswith("1 → 20: ")
    assert site.cluster.status["lastScaleTime"] == "2026-11-24T08:00:15Z"
    assert site.cluster.conditions["ScalingLimited"] == "True TooFewAllowed"
    assert site.cluster.reasons == ["Scaled", "TooFewAllowed"]


async def test_scaling_within_its_bounds_is_one_event(site: Site) -> None:
    await site.turns(2)
    site.arrive(10_000)
    await site.turn()
    assert site.cluster.reasons == ["Scaled"]


async def test_observed_site_is_told_once_what_would_be_done(site: Site) -> None:
    site.create(mode="observe", maxReplicas=20, hitsPerBusySecond=1000)
    await site.turns(2)
    site.arrive(60_000)
    await site.turns(3)
    assert site.cluster.scaled == []
    assert site.cluster.reasons.count("WouldScale") == 1
    assert site.cluster.conditions["Ready"] == "True AllWell"
    assert (site.cluster.status["desiredReplicas"], site.cluster.status["replicas"]) == (20, 1)


async def test_number_is_held_while_redis_is_away_and_the_status_says_so(site: Site) -> None:
    site.cluster.replicas = site.cluster.ready_replicas = 5
    await site.turns(2)
    site.stream.is_away = True
    await site.turns(60)
    assert site.cluster.replicas == 5
    assert site.cluster.conditions["Ready"] == "False RedisUnavailable"
    assert site.cluster.conditions["AutoscalingActive"] == "False MetricsUnknown"
    assert "backlog" not in site.cluster.status
    assert site.cluster.reasons.count("RedisUnavailable") == 1
    site.stream.is_away = False
    await site.turns(2)
    assert site.cluster.conditions["Ready"] == "True AllWell"


async def test_push_back_of_elasticsearch_keeps_the_number_and_is_a_condition(site: Site) -> None:
    await site.turns(2)
    site.arrive(60_000)
    site.stream.ledger = replace(site.stream.ledger, indexed=100)
    site.stream.work = IndexerWork(busy_ms=4000, hits=100, pushed_back=50)
    await site.turn()
    assert site.cluster.scaled == []
    assert site.cluster.conditions["SinkThrottled"] == "True ElasticsearchPushesBack"
    assert site.cluster.reasons == ["ElasticsearchPushesBack"]
    await site.turns(7)
    assert site.cluster.conditions["SinkThrottled"] == "False NoPushBack"
    assert site.cluster.replicas == 2


async def test_ledger_that_stepped_back_is_told_and_takes_nobody_away(site: Site) -> None:
    site.stream.ledger = Ledger(accepted=1000, indexed=1000)
    site.cluster.replicas = site.cluster.ready_replicas = 5
    await site.turns(2)
    site.stream.ledger = Ledger()
    await site.turn()
    messages = [event["message"] for event in site.cluster.events if event["reason"] == "LedgerSteppedBack"]
    assert len(messages) == 1
    assert "from 1,000 to 0 accepted hits" in messages[0]
    assert site.cluster.replicas == 5


@pytest.mark.parametrize(
    ("scalers", "away", "reason"),
    [(["keda-hpa-indexer"], set(), "ManagedByHPA"), ([], {"scalers"}, "ScalersUnknown")],
)
async def test_deployment_that_another_scaler_drives_or_may_drive_is_left_alone(
    site: Site, scalers: list[str], away: set[str], reason: str
) -> None:
    site.cluster.scalers, site.cluster.away = scalers, away
    await site.turns(2)
    site.arrive(60_000)
    await site.turn()
    assert site.cluster.scaled == []
    assert site.cluster.conditions["Ready"] == f"False {reason}"
    assert site.cluster.reasons.count(reason) == 1


async def test_deployment_that_was_set_to_zero_stays_so(site: Site) -> None:
    site.cluster.replicas = 0
    site.arrive(60_000)
    await site.turns(3)
    assert site.cluster.scaled == []
    assert site.cluster.conditions["AutoscalingActive"] == "False ScaledToZero"


async def test_deployment_that_keda_took_to_zero_is_decided_on_so_that_keda_can_wake_it(site: Site) -> None:
    site.create(mode="observe")
    site.cluster.replicas = site.cluster.ready_replicas = 0
    await site.turns(2)
    assert (site.cluster.status["desiredReplicas"], site.cluster.status["replicas"]) == (1, 0)


async def test_scaling_that_is_refused_is_told_and_tried_again(site: Site) -> None:
    await site.turns(2)
    site.arrive(60_000)
    site.cluster.away = {"scale"}
    await site.turn()
    assert "ScaleFailed" in site.cluster.reasons
    site.cluster.away = set()
    await site.turn()
    assert site.cluster.scaled == [20]


@pytest.mark.parametrize("call", ["deployment", "scale", "scalers"])
@pytest.mark.parametrize("status", [None, 403, 404, 409, 500, 503])
async def test_kubernetes_that_fails_while_scaling_is_a_condition_and_all_else_is_told_in_the_same_turn(
    site: Site, call: str, status: int | None
) -> None:
    site.cluster.replicas = site.cluster.ready_replicas = 5
    await site.turns(2)
    site.cluster.away, site.cluster.refusal = {call}, status
    site.arrive(200_000)
    site.stream.has_group = False
    await site.turn()
    reason = {"scale": "ScaleFailed", "scalers": "ScalersUnknown"}.get(call, "IndexersUnknown")
    assert site.cluster.conditions["AutoscalingActive"] == f"False {reason}"
    assert site.cluster.conditions["Ready"] == f"False {reason}"
    assert site.cluster.conditions["QueueReady"] == "True QueueWell"
    assert site.cluster.status["backlog"] == 200_000
    assert set(site.cluster.reasons) >= {"ConsumerGroupRepaired", reason}
    assert site.readiness.is_ready
    site.stream.is_away = True
    await site.turn()
    assert site.cluster.conditions["Ready"] == "False RedisUnavailable"
    site.stream.is_away, site.cluster.away = False, set()
    await site.turns(2)
    site.arrive(200_000)
    await site.turn()
    assert site.cluster.conditions["Ready"] == "True AllWell"
    assert site.cluster.replicas == 20


async def test_refusal_that_lasts_is_one_event_and_few_statuses(site: Site) -> None:
    await site.turns(2)
    site.cluster.away, site.cluster.refusal = {"scale"}, 403
    site.arrive(60_000)
    await site.turn()
    written = len(site.cluster.statuses)
    await site.turns(60)
    assert site.cluster.reasons.count("ScaleFailed") == 1
    assert len(site.cluster.statuses) - written < 40


async def test_lease_that_ran_out_in_the_middle_of_a_turn_keeps_the_operator_from_scaling(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.turns(2)
    site.arrive(60_000)
    find = site.cluster.find_deployment

    async def find_late(name: str) -> Deployment | None:
        site.time.go(20.0)
        return await find(name)

    with monkeypatch.context() as patch:
        patch.setattr(site.cluster, "find_deployment", find_late)
        await site.turn()
    assert site.cluster.scaled == []
    await site.turn()
    assert site.cluster.scaled == [20]


async def test_status_that_cannot_be_written_keeps_nobody_from_telling_what_was_done(site: Site) -> None:
    await site.turns(2)
    site.cluster.away = {"status"}
    site.arrive(60_000)
    with pytest.raises(ClusterUnavailable):
        await site.turn()
    assert site.cluster.reasons == ["Scaled"]


async def test_status_that_an_old_definition_rejects_keeps_nobody_from_scaling_and_telling(site: Site) -> None:
    await site.turns(2)
    site.cluster.away, site.cluster.refusal = {"status"}, 422
    site.arrive(60_000)
    assert await site.turn()
    assert site.cluster.scaled == [20]
    assert site.cluster.reasons == ["Scaled"]


async def test_change_of_the_resource_between_two_looks_asks_for_no_rate(site: Site) -> None:
    await site.turns(2)
    site.change(index={"retentionDays": 9})
    await site.turn(seconds=0.2)
    assert site.cluster.status["observedGeneration"] == 2
    assert site.cluster.conditions["AutoscalingActive"] == "True Scaling"


async def test_mode_none_looks_after_queue_and_indices_alone(site: Site) -> None:
    site.create(mode="none")
    site.cluster.away = {"deployment", "scalers"}
    await site.turns(2)
    assert site.cluster.conditions["Ready"] == "True AllWell"
    assert site.cluster.conditions["AutoscalingActive"] == "False Disabled"
    assert "desiredReplicas" not in site.cluster.status


# ── the spec ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_spec_that_cannot_be_read_is_said_and_nothing_is_done(site: Site) -> None:
    site.change(index={"retentionDays": 1})
    await site.turns(2)
    assert site.cluster.conditions == {"Ready": "False SpecInvalid"}
    assert site.cluster.reasons == ["SpecInvalid"]
    assert site.indices.looks == 0


async def test_retention_that_only_the_resource_asks_for_is_said_not_to_be_done(site: Site) -> None:
    await site.turns(2)
    assert "retentionDays" not in str(site.cluster.status["conditions"])
    site.change(index={"retentionDays": 30})
    await site.turn()
    assert "spec.index.retentionDays is no longer used: the indexers keep 4 days" in str(
        site.cluster.status["conditions"]
    )
    assert site.cluster.status["retentionDays"] == 4
    assert site.cluster.conditions["Ready"] == "True AllWell"


# ── care ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_repair_is_one_event(site: Site) -> None:
    await site.turns(2)
    site.stream.has_group = False
    site.indices.template = TemplateCheck(TemplateState.CHANGED, ["priority"])
    await site.turn(seconds=60)
    await site.turns(5)
    assert sorted(site.cluster.reasons) == [
        "ConsumerGroupRepaired",
        "TemplateRepaired",
    ]
    messages = " ".join(event["message"] for event in site.cluster.events)
    assert "restored: priority" in messages


async def test_first_group_is_created_and_not_repaired(site: Site) -> None:
    site.stream.has_group = False
    await site.turn()
    assert site.cluster.reasons == ["ConsumerGroupCreated"]


async def test_index_that_is_unfit_is_looked_at_again_soon(site: Site) -> None:
    site.indices.report = IndicesReport(["hits-2026.11.24"], {"hits-2026.11.24": "its mapping of n differs"}, {})
    await site.turns(2)
    assert site.cluster.conditions["Ready"] == "False IndexUnfit"
    site.indices.report = IndicesReport(["hits-2026.11.24"], {}, {})
    await site.turns(2)
    assert site.cluster.conditions["Ready"] == "True AllWell"
    assert site.cluster.reasons == ["IndexUnfit", "IndexWell"]


async def test_trouble_of_the_indices_that_lasts_makes_nobody_look_at_each_turn(site: Site) -> None:
    await site.turns(2)
    pings = site.stream.pings
    site.indices.report = IndicesReport(["hits-2026.11.24"], {"hits-2026.11.24": "index.blocks.write is true"}, {})
    site.indices.looks = 0
    await site.turns(10 * 12)
    assert 10 <= site.indices.looks <= 20
    assert site.stream.pings - pings <= 11


async def test_template_that_elasticsearch_refuses_is_said_and_is_no_fault(site: Site) -> None:
    refused = TemplateCheck(TemplateState.REFUSED, [], "a stranger has the same priority")

    async def refuse() -> TemplateCheck:
        return refused

    site.indices.ensure_template = refuse  # type: ignore[method-assign]  # for good
    await site.turns(30)
    assert site.cluster.conditions["IndexReady"] == "True IndexWell"
    assert site.cluster.reasons == ["TemplateRefused"]
    assert "a stranger has the same priority" in str(site.cluster.status["conditions"])


async def test_condition_that_flips_at_each_turn_is_few_events(site: Site) -> None:
    await site.turns(2)
    for number in range(720):
        site.stream.is_away = number % 2 == 1
        await site.turn()
    assert 2 <= len(site.cluster.events) <= 4
    assert sum(event["count"] for event in site.cluster.events) <= 25 + 13


async def test_elasticsearch_away_keeps_nobody_from_scaling(site: Site) -> None:
    site.indices.is_away = True
    await site.turns(2)
    assert site.cluster.conditions["IndexReady"] == "False ElasticsearchUnavailable"
    site.arrive(60_000)
    await site.turn()
    assert site.cluster.scaled == [20]


async def test_bug_in_the_check_of_the_indices_is_a_condition_and_keeps_nobody_from_scaling(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> TemplateCheck:
        raise KeyError("settings")

    monkeypatch.setattr(site.indices, "ensure_template", fail)
    await site.turns(2)
    assert site.cluster.conditions["IndexReady"] == "False IndicesUnknown"
    site.arrive(60_000)
    await site.turn()
    assert site.cluster.scaled == [20]


async def test_slow_elasticsearch_holds_up_no_turn(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitcounter_operator.loop._INDEX_WAIT_SECONDS", 0.01)
    answered = asyncio.Event()
    look_at_once = site.indices.ensure_template

    async def look_late() -> TemplateCheck:
        await answered.wait()
        return await look_at_once()

    monkeypatch.setattr(site.indices, "ensure_template", look_late)
    await site.turns(2)
    assert site.cluster.conditions["IndexReady"] == "Unknown NotLookedYet"
    site.arrive(60_000)
    await site.turn()
    assert site.cluster.scaled == [20]
    answered.set()
    await site.turn()
    assert site.cluster.conditions["IndexReady"] == "True IndexWell"


# ── Kubernetes away, and others ──────────────────────────────────────────────────────────────────────────────────────


async def test_kubernetes_away_is_an_error_of_the_turn_and_the_next_one_goes_on(site: Site) -> None:
    await site.turns(2)
    site.cluster.away = {"all"}
    for _ in range(12):
        with pytest.raises(ClusterUnavailable):
            await site.turn()
    site.cluster.away = set()
    await site.turns(2)
    assert site.cluster.conditions["Ready"] == "True AllWell"
    assert site.cluster.events == []


async def test_event_that_could_not_be_posted_is_posted_later_with_its_own_time(site: Site) -> None:
    await site.turns(2)
    site.cluster.away = {"event"}
    site.stream.has_group = False
    await site.turn()
    assert site.cluster.events == []
    site.cluster.away = set()
    await site.turn()
    (event,) = site.cluster.events
    assert (event["reason"], event["firstTimestamp"]) == ("ConsumerGroupRepaired", "2026-11-24T08:00:15Z")


async def test_slow_posting_of_events_leaves_the_rest_to_the_next_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter_operator.events._POST_SECONDS", 0.0)
    await site.turns(2)
    site.stream.is_away = True
    await site.turn()
    assert site.cluster.reasons == ["RedisUnavailable"]
    await site.turn()
    assert site.cluster.reasons == ["RedisUnavailable", "MetricsUnknown"]


async def test_event_that_kubernetes_rejects_as_invalid_keeps_back_no_later_one(site: Site) -> None:
    await site.turns(2)
    site.cluster.invalid_reasons = {"ConsumerGroupRepaired"}
    site.stream.has_group = False
    await site.turn()
    site.stream.is_away = True
    await site.turn()
    assert site.cluster.reasons == ["RedisUnavailable", "MetricsUnknown"]


async def test_status_that_could_not_be_written_is_told_once_it_is(site: Site) -> None:
    site.cluster.away = {"status"}
    site.stream.is_away = True
    for _ in range(3):
        with pytest.raises(ClusterUnavailable):
            await site.turn()
    assert site.cluster.events == []
    site.cluster.away = set()
    await site.turns(2)
    assert site.cluster.reasons.count("RedisUnavailable") == 1


async def test_second_operator_does_nothing_until_the_first_one_leaves(site: Site) -> None:
    other = Site(time=site.time, cluster=site.cluster, identity="operator-2")
    await site.turn()
    assert [await other.turn(seconds=0.1), await site.turn()] == [False, True]
    assert other.readiness.problems == {"lease": "operator-1 is at work"}
    assert other.indices.looks == 0
    site.loop.stop()
    await site.loop.run()
    assert await other.turn(seconds=0.1)
    assert other.readiness.is_ready


async def test_restarted_operator_says_nothing_again(site: Site) -> None:
    site.cluster.scalers = ["keda-hpa-indexer"]
    await site.turns(3)
    told = list(site.cluster.reasons)
    site.loop.stop()
    await site.loop.run()
    successor = Site(time=site.time, cluster=site.cluster, identity="operator-2")
    await successor.turns(3)
    assert site.cluster.reasons == told == ["ManagedByHPA"]


async def test_resource_made_anew_under_its_name_begins_anew(site: Site) -> None:
    await site.turns(3)
    site.cluster.uid, site.cluster.status = "2", {}
    await site.turn()
    assert site.cluster.conditions["AutoscalingActive"] == "Unknown FirstLook"
    await site.turn()
    assert site.cluster.conditions["Ready"] == "True AllWell"


async def test_gone_resource_leaves_no_metrics_behind(site: Site) -> None:
    await site.turns(2)
    assert site.registry.get_sample_value("hitcounter_operator_desired_replicas", {"hitcounter": NAME}) == 1
    site.cluster.spec = None
    await site.turn()
    assert site.registry.get_sample_value("hitcounter_operator_desired_replicas", {"hitcounter": NAME}) is None
    assert site.registry.get_sample_value("hitcounter_operator_condition", {"type": "Ready"}) is None


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_running_loop_goes_on_whatever_a_turn_meets_and_ends_when_told_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    async def fail() -> bool:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise ClusterUnavailable("away")
        if turns == 2:
            raise ZeroDivisionError
        site.loop.stop()
        return True

    monkeypatch.setattr(site.loop, "run_once", fail)
    running = asyncio.create_task(site.loop.run())
    while not running.done():
        site.loop.wake()
        await asyncio.sleep(0)
    assert turns == 3
    results = {
        result: site.registry.get_sample_value("hitcounter_operator_turns_total", {"result": result})
        for result in ("done", "failed")
    }
    assert results == {"done": 1, "failed": 2}


async def test_loop_gives_its_lease_back_when_it_ends(site: Site) -> None:
    await site.turn()
    site.loop.stop()
    await site.loop.run()
    assert site.cluster.holder == ""


async def test_loop_that_begins_no_turn_for_two_minutes_is_not_alive_and_failed_turns_are_turns(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = asyncio.Event()

    async def hang() -> bool:
        await hung.wait()
        site.loop.stop()
        raise ClusterUnavailable("away")

    monkeypatch.setattr(site.loop, "run_once", hang)
    running = asyncio.create_task(site.loop.run())
    await asyncio.sleep(0)
    site.time.go(119)
    assert site.loop.is_alive()
    site.time.go(1)
    assert not site.loop.is_alive()
    hung.set()
    await running
