"""Contradictory values are rejected at render time, by a message that names the value to set."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.cases import EXTERNAL_ELASTICSEARCH, EXTERNAL_REDIS, merge
from tests.chart.rendering import Case, RefusedError, render

KEDA = {"autoscaling": {"mode": "keda", "keda": {"source": "status"}}}

SENTENCES: list[tuple[str, dict[str, Any], str]] = [
    ("no Redis", EXTERNAL_REDIS, "set redis.enabled=true, or externalRedis.host"),
    ("two Redis", {"externalRedis": {"host": "r"}}, "Set redis.enabled=false"),
    (
        "Redis asks for passwords that nobody has",
        {"redis": {"auth": {"enabled": True, "apiPassword": "only one"}}},
        "set redis.auth.existingSecret to a Secret with the keys api-password and indexer-password",
    ),
    (
        "users for another prefix",
        {"redis": {"auth": {"enabled": True, "existingSecret": "s"}}, "config": {"redis": {"prefix": "shop"}}},
        "redis.auth.prefix is hitcounter but config.redis.prefix is shop",
    ),
    (
        "Valkey by Redis's image",
        {"redis": {"engine": "valkey"}},
        "redis.engine is valkey but redis.image.repository is library/redis: set redis.image.repository to",
    ),
    (
        "Redis by Valkey's image",
        {"redis": {"image": {"repository": "mirror/valkey"}}},
        "redis.image.repository is mirror/valkey but redis.engine is redis: set redis.engine=valkey",
    ),
    (
        "Redis without a limit",
        {"redis": {"resources": {"limits": {"memory": None}}}},
        "redis.resources.limits.memory is not set",
    ),
    (
        "Redis by host and by sentinels",
        merge(EXTERNAL_REDIS, {"externalRedis": {"host": "r", "sentinel": {"nodes": ["s:26379"]}}}),
        "leave externalRedis.host empty",
    ),
    (
        "user without a password",
        merge(EXTERNAL_REDIS, {"externalRedis": {"host": "r", "username": "u"}}),
        "set externalRedis.existingSecret (or externalRedis.password)",
    ),
    (
        "password of the sentinels from nowhere",
        merge(EXTERNAL_REDIS, {"externalRedis": {"sentinel": {"nodes": ["s:26379"], "passwordKey": "k"}}}),
        "externalRedis.sentinel.passwordKey is set without its Secret: set externalRedis.existingSecret",
    ),
    (
        "authority without TLS",
        merge(EXTERNAL_REDIS, {"externalRedis": {"host": "r", "tls": {"caSecret": "s"}}}),
        "set externalRedis.tls.enabled=true",
    ),
    (
        "client certificate without TLS",
        merge(EXTERNAL_REDIS, {"externalRedis": {"host": "r", "tls": {"clientSecret": "s"}}}),
        "set externalRedis.tls.enabled=true",
    ),
    (
        "user of the sentinels without a password",
        merge(EXTERNAL_REDIS, {"externalRedis": {"sentinel": {"nodes": ["s:26379"], "username": "u"}}}),
        "set externalRedis.sentinel.passwordKey",
    ),
    (
        "authority of a plain Elasticsearch",
        merge(EXTERNAL_ELASTICSEARCH, {"externalElasticsearch": {"urls": ["http://e:9200"], "caSecret": "s"}}),
        "use https:// in externalElasticsearch.urls",
    ),
    (
        "two schemes",
        merge(EXTERNAL_ELASTICSEARCH, {"externalElasticsearch": {"urls": ["http://e:9200", "https://f"]}}),
        "mixes http:// and https://",
    ),
    (
        "no Elasticsearch",
        EXTERNAL_ELASTICSEARCH,
        "set elasticsearch.enabled=true, or externalElasticsearch.urls",
    ),
    ("two Elasticsearch", {"externalElasticsearch": {"urls": ["http://e:9200"]}}, "Set elasticsearch.enabled=false"),
    (
        "Elasticsearch asks for a password that nobody has",
        {"elasticsearch": {"security": {"enabled": True}}},
        "set elasticsearch.security.existingSecret (or elasticsearch.security.password)",
    ),
    ("two nodes", {"elasticsearch": {"replicas": 2}}, "set elasticsearch.replicas to 1, or to 3"),
    (
        "several nodes with passwords in the open",
        {"elasticsearch": {"replicas": 3, "security": {"enabled": True, "password": "p"}}},
        "set elasticsearch.tls.existingSecret to a Secret with tls.crt, tls.key and ca.crt",
    ),
    (
        "certificates without security",
        {"elasticsearch": {"tls": {"existingSecret": "s"}}},
        "set elasticsearch.security.enabled=true",
    ),
    (
        "basic without a password",
        merge(
            EXTERNAL_ELASTICSEARCH,
            {"externalElasticsearch": {"urls": ["http://e"], "authentication": "basic", "username": "u"}},
        ),
        "externalElasticsearch.authentication is basic: set externalElasticsearch.username",
    ),
    (
        "key without a key",
        merge(EXTERNAL_ELASTICSEARCH, {"externalElasticsearch": {"urls": ["http://e"], "authentication": "apiKey"}}),
        "set externalElasticsearch.existingSecret (or externalElasticsearch.apiKey)",
    ),
    (
        "credentials that nobody would use",
        merge(EXTERNAL_ELASTICSEARCH, {"externalElasticsearch": {"urls": ["http://e"], "apiKey": "k"}}),
        "set externalElasticsearch.authentication to basic or apiKey",
    ),
    (
        "KEDA that does not know Prometheus",
        {"autoscaling": {"mode": "keda"}},
        "set autoscaling.keda.prometheus.serverAddress, for example to http",
    ),
    (
        "KEDA without its credentials",
        {
            "autoscaling": {
                "mode": "keda",
                "keda": {"prometheus": {"serverAddress": "http://p", "authentication": "basic"}},
            }
        },
        "set autoscaling.keda.prometheus.existingSecret",
    ),
    (
        "indexers with two minds",
        merge(KEDA, {"indexer": {"replicas": 3}}),
        "indexer.replicas is set while autoscaling.mode is keda",
    ),
    (
        "API with two minds",
        {"api": {"replicas": 3, "autoscaling": {"mode": "hpa"}}},
        "api.replicas is set while api.autoscaling.mode is hpa: unset api.replicas (null), and set api.autoscaling.min",
    ),
    (
        "replicas of indexers that something else scales",
        {"indexer": {"replicas": 3}, "autoscaling": {"mode": "external"}},
        "autoscaling.mode is external: unset indexer.replicas (null), because your autoscaler sets it.",
    ),
    (
        "replicas of an API that something else scales",
        {"api": {"replicas": 3, "autoscaling": {"mode": "external"}}},
        "api.autoscaling.mode is external: unset api.replicas (null), because your autoscaler sets it.",
    ),
    (
        "an API with no metric",
        {"api": {"autoscaling": {"mode": "hpa", "targetCPUUtilization": None}}},
        "set api.autoscaling.targetCPUUtilization or api.autoscaling.metrics",
    ),
    (
        "a value of an earlier version",
        {"api": {"autoscaling": {"enabled": False}}},
        "api.autoscaling.enabled no longer exists: set api.autoscaling.mode to hpa or none.",
    ),
    (
        "idle at the minimum",
        merge(KEDA, {"autoscaling": {"minReplicas": 0, "keda": {"idleReplicas": 0}}}),
        "unset autoscaling.keda.idleReplicas (null), or set autoscaling.minReplicas to 1 or more",
    ),
    (
        "two ways for KEDA to sign in",
        {
            "autoscaling": {
                "mode": "keda",
                "keda": {
                    "authenticationRef": {"name": "mine"},
                    "prometheus": {"serverAddress": "http://p", "authentication": "basic", "existingSecret": "s"},
                },
            }
        },
        "autoscaling.keda.authenticationRef and autoscaling.keda.prometheus.authentication are both set",
    ),
    (
        "bounds the wrong way round",
        {"autoscaling": {"minReplicas": 5, "maxReplicas": 4}},
        "autoscaling.minReplicas (5) is greater than autoscaling.maxReplicas (4)",
    ),
    (
        "bounds of the API the wrong way round",
        {"api": {"autoscaling": {"minReplicas": 5, "maxReplicas": 4}}},
        "api.autoscaling.minReplicas (5) is greater than api.autoscaling.maxReplicas (4)",
    ),
    (
        "none at all by CPU",
        {"autoscaling": {"mode": "hpa", "minReplicas": 0}},
        "set autoscaling.minReplicas to 1 or more, or autoscaling.mode to keda",
    ),
    (
        "nothing to look at",
        {"autoscaling": {"mode": "hpa", "hpa": {"targetCPUUtilization": None}}},
        "set autoscaling.hpa.targetCPUUtilization, autoscaling.hpa.externalMetric.enabled or autoscaling.hpa.metrics",
    ),
    (
        "a share of nothing",
        {"autoscaling": {"mode": "hpa"}, "indexer": {"resources": {"requests": {"cpu": None}}}},
        "indexer.resources.requests.cpu is not set",
    ),
    (
        "a share of nothing for the API",
        {"api": {"autoscaling": {"mode": "hpa"}, "resources": {"requests": None}}},
        "api.resources.requests.cpu is not set",
    ),
    (
        "scaling by nobody",
        {"autoscaling": {"mode": "operator"}},
        "autoscaling.mode is operator but the operator is not enabled: set operator.enabled=true",
    ),
    (
        "KEDA that asks the operator",
        {"operator": {"enabled": True}, "autoscaling": {"mode": "keda", "keda": {"source": "operator"}}},
        "autoscaling.keda.source is operator: set it to prometheus or status.",
    ),
    (
        "a target of the backlog",
        {"autoscaling": {"hpa": {"externalMetric": {"averageValue": 1000}}}},
        "autoscaling.hpa.externalMetric.averageValue no longer exists: the metric is the number of indexers wanted",
    ),
    (
        "a metric that is not used",
        {"autoscaling": {"hpa": {"externalMetric": {"name": "backlog"}}}},
        "set autoscaling.hpa.externalMetric.enabled=true if the metric is the number of indexers wanted",
    ),
    (
        "none at all by the operator",
        {"operator": {"enabled": True}, "autoscaling": {"mode": "operator", "minReplicas": 0}},
        "set autoscaling.minReplicas to 1 or more, or autoscaling.mode to keda.",
    ),
    (
        "an operator without a password",
        {
            "operator": {"enabled": True},
            "redis": {"auth": {"enabled": True, "apiPassword": "a", "indexerPassword": "b"}},
        },
        "set redis.auth.operatorPassword",
    ),
    (
        "a CronJob that no longer exists",
        {"retention": {"schedule": "17 3 * * *"}},
        "retention no longer exists: the indexers delete expired indices themselves",
    ),
    (
        "indexers with two minds, one of them the operator's",
        {"operator": {"enabled": True}, "autoscaling": {"mode": "operator"}, "indexer": {"replicas": 3}},
        "indexer.replicas is set while autoscaling.mode is operator",
    ),
    (
        "a variable of the operator",
        {"operator": {"enabled": True, "extraEnv": [{"name": "HITCOUNTER_OPERATOR__NAME", "value": "mine"}]}},
        "operator.extraEnv sets HITCOUNTER_OPERATOR__NAME, which the chart sets itself",
    ),
    ("an ingress to nowhere", {"ingress": {"enabled": True}}, "set ingress.hosts, for example"),
    ("a route of nobody", {"httpRoute": {"enabled": True}}, "set httpRoute.parentRefs, for example"),
    (
        "our variable",
        {"api": {"extraEnv": [{"name": "HITCOUNTER_REDIS__URL", "value": "redis://mine"}]}},
        "api.extraEnv sets HITCOUNTER_REDIS__URL, which the chart sets itself",
    ),
    (
        "our secret variable",
        {
            "redis": {"auth": {"enabled": True, "existingSecret": "s"}},
            "indexer": {"extraEnv": [{"name": "HITCOUNTER_REDIS__PASSWORD", "value": "mine"}]},
        },
        "indexer.extraEnv sets HITCOUNTER_REDIS__PASSWORD, which the chart sets itself",
    ),
    (
        "a quantity that is none",
        {"api": {"resources": {"limits": {"memory": "512MB"}}}},
        'api.resources.limits.memory is "512MB", which is not a Kubernetes quantity: write memory and storage as 512Mi',
    ),
    (
        "a volume of no size",
        {"redis": {"persistence": {"size": "8 GB"}}},
        'redis.persistence.size is "8 GB", which is not a Kubernetes quantity',
    ),
]

SCHEMA: list[tuple[str, dict[str, Any], str]] = [
    ("a section that does not exist", {"apis": {}}, "additional properties 'apis' not allowed"),
    ("a value that does not exist", {"api": {"replica": 2}}, "additional properties 'replica' not allowed"),
    ("a value of the stores", {"redis": {"persistance": {}}}, "additional properties 'persistance' not allowed"),
    ("a setting that does not exist", {"api": {"config": {"intake": {"limits": 1}}}}, "'limits' not allowed"),
    ("a mode that does not exist", {"autoscaling": {"mode": "auto"}}, "/autoscaling/mode"),
    ("a mode of the API that does not exist", {"api": {"autoscaling": {"mode": "keda"}}}, "/api/autoscaling/mode"),
    ("a trigger without a type", {"autoscaling": {"keda": {"extraTriggers": [{"metadata": {}}]}}}, "/extraTriggers/0"),
    ("idle indexers", {"autoscaling": {"keda": {"idleReplicas": 1}}}, "/autoscaling/keda/idleReplicas"),
    (
        "credentials in an object of another kind",
        {"autoscaling": {"keda": {"authenticationRef": {"kind": "Secret"}}}},
        "/autoscaling/keda/authenticationRef/kind",
    ),
    ("a setting out of its bounds", {"config": {"index": {"retention_days": 1}}}, "minimum: got 1, want 4"),
    ("a port as text", {"api": {"service": {"port": "http"}}}, "/api/service/port"),
    ("an address without its scheme", {"externalElasticsearch": {"urls": ["e:9200"]}}, "/externalElasticsearch/urls/0"),
    ("a sentinel without its port", {"externalRedis": {"sentinel": {"nodes": ["s"]}}}, "/sentinel/nodes/0"),
    ("a digest that is none", {"api": {"image": {"digest": "latest"}}}, "/api/image/digest"),
]


@pytest.mark.parametrize("major", [4, 3])
@pytest.mark.parametrize(("values", "sentence"), [case[1:] for case in SENTENCES], ids=[case[0] for case in SENTENCES])
def test_refused_with_what_to_set(values: dict[str, Any], sentence: str, major: int) -> None:
    with pytest.raises(RefusedError) as refusal:
        render(Case("", values), major)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("major", [4, 3])
@pytest.mark.parametrize(("values", "words"), [case[1:] for case in SCHEMA], ids=[case[0] for case in SCHEMA])
def test_typos_fail_with_their_place(values: dict[str, Any], words: str, major: int) -> None:
    with pytest.raises(RefusedError) as refusal:
        render(Case("", values), major)
    assert words in str(refusal.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(RefusedError) as refusal:
        render(Case("", merge(EXTERNAL_REDIS, EXTERNAL_ELASTICSEARCH, {"autoscaling": {"mode": "keda"}})))
    for value in ("redis.enabled=true", "elasticsearch.enabled=true", "autoscaling.keda.prometheus.serverAddress"):
        assert f"set {value}" in str(refusal.value)
