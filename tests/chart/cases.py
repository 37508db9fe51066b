"""The ways to install the chart that the tests go through: every profile and sample, and the switches in pairs.

Every pair of positions of two switches meets in at least one case. That finds what goes wrong when two things are
combined, with forty cases in place of some ten thousand.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

from tests.chart.rendering import ROOT, Case

EXTERNAL_REDIS = {"redis": {"enabled": False}}
EXTERNAL_ELASTICSEARCH = {"elasticsearch": {"enabled": False}}
PROMETHEUS = {"serverAddress": "http://prometheus.monitoring.svc:9090"}

SWITCHES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "scaling": {
        "none": {"indexer": {"replicas": 3}},
        "hpa-cpu": {"autoscaling": {"mode": "hpa"}},
        "hpa-metric": {
            "autoscaling": {
                "mode": "hpa",
                "hpa": {"targetCPUUtilization": None, "externalMetric": {"enabled": True}},
            }
        },
        "keda": {"autoscaling": {"mode": "keda", "minReplicas": 0, "keda": {"prometheus": PROMETHEUS}}},
        "keda-basic": {
            "autoscaling": {
                "mode": "keda",
                "keda": {
                    "takeOverHpa": "old",
                    "prometheus": {**PROMETHEUS, "authentication": "basic", "existingSecret": "yours"},
                },
            }
        },
        "keda-bearer": {
            "autoscaling": {
                "mode": "keda",
                "keda": {"prometheus": {**PROMETHEUS, "authentication": "bearer", "existingSecret": "yours"}},
            }
        },
        "keda-status": {
            "operator": {"enabled": True},
            "autoscaling": {"mode": "keda", "keda": {"source": "status"}},
        },
        "keda-extras": {
            "autoscaling": {
                "mode": "keda",
                "keda": {
                    "idleReplicas": 0,
                    "initialCooldownSeconds": 120,
                    "useCachedMetrics": True,
                    "annotations": {"autoscaling.keda.sh/paused-scale-in": "true"},
                    "extraTriggers": [
                        {
                            "type": "cron",
                            "metadata": {
                                "timezone": "UTC",
                                "start": "0 8 * * *",
                                "end": "0 9 * * *",
                                "desiredReplicas": "5",
                            },
                        }
                    ],
                    "triggerMetadata": {"customHeaders": "X-Scope-OrgID=web", "unsafeSsl": True, "timeout": "5s"},
                    "authenticationRef": {"name": "yours", "kind": "ClusterTriggerAuthentication"},
                    "prometheus": PROMETHEUS,
                },
            }
        },
        "external": {"operator": {"enabled": True}, "autoscaling": {"mode": "external"}},
        "operator": {
            "operator": {"enabled": True},
            "autoscaling": {"mode": "operator", "operator": {"cooldownSeconds": 60}},
        },
        "observed": {"operator": {"enabled": True}, "autoscaling": {"minReplicas": 0}},
    },
    "redis": {
        "bundled": {},
        "users": {"redis": {"auth": {"enabled": True, "existingSecret": "yours"}}},
        "passwords": {
            "redis": {
                "auth": {"enabled": True, "apiPassword": "a", "indexerPassword": "b", "operatorPassword": "c"},
                "persistence": {"enabled": False},
                "extraConfig": "timeout 0",
            }
        },
        "valkey": {"redis": {"engine": "valkey", "image": {"repository": "valkey/valkey", "tag": "9.1.2"}}},
        "external": {
            **EXTERNAL_REDIS,
            "externalRedis": {"host": "redis.example.org", "password": "p", "trustMemoryPolicy": True},
        },
        "tls": {
            **EXTERNAL_REDIS,
            "externalRedis": {
                "host": "redis.example.org",
                "port": 6380,
                "username": "u",
                "existingSecret": "yours",
                "tls": {"enabled": True, "caSecret": "yours", "clientSecret": "yours"},
            },
        },
        "sentinel": {
            **EXTERNAL_REDIS,
            "externalRedis": {
                "existingSecret": "yours",
                "sentinel": {"nodes": ["s1:26379", "[fd00::2]:26380"], "username": "s", "passwordKey": "sentinel"},
            },
        },
    },
    "elasticsearch": {
        "bundled": {},
        "password": {
            "elasticsearch": {
                "security": {"enabled": True, "password": "p"},
                "persistence": {"enabled": False},
                "heapSize": "512m",
            }
        },
        "three": {"elasticsearch": {"replicas": 3}},
        "three-tls": {
            "elasticsearch": {
                "replicas": 3,
                "security": {"enabled": True, "existingSecret": "yours"},
                "tls": {"existingSecret": "yours"},
                "extraSettings": {"indices.memory.index_buffer_size": "20%"},
            }
        },
        "external": {**EXTERNAL_ELASTICSEARCH, "externalElasticsearch": {"urls": ["http://e1:9200", "http://e2:9200"]}},
        "basic": {
            **EXTERNAL_ELASTICSEARCH,
            "externalElasticsearch": {
                "urls": ["https://e.example.org"],
                "authentication": "basic",
                "username": "u",
                "existingSecret": "yours",
                "caSecret": "yours",
                "caKey": "authority.pem",
                "clientSecret": "yours",
            },
        },
        "key": {
            **EXTERNAL_ELASTICSEARCH,
            "externalElasticsearch": {"urls": ["https://e:9243"], "authentication": "apiKey", "apiKey": "k"},
        },
    },
    "api": {
        "fixed": {"api": {"replicas": 1}},
        "scaled": {"api": {"autoscaling": {"mode": "hpa"}}},
        "external": {"api": {"autoscaling": {"mode": "external"}}},
    },
    "network": {
        "open": {"networkPolicy": {"enabled": False}},
        "walled": {
            "networkPolicy": {
                "apiFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
                "prometheusFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
                "elasticsearchFrom": [{"podSelector": {"matchLabels": {"app": "kibana"}}}],
                "extraEgress": [{"ports": [{"port": 4317}]}],
            }
        },
        "default": {},
    },
    "entry": {
        "inside": {},
        "node-port": {"api": {"service": {"type": "NodePort", "nodePort": 30081, "port": 80}}},
        "ingress": {
            "ingress": {"enabled": True, "className": "nginx", "hosts": ["h.example.org"], "tls": [{"hosts": ["h"]}]}
        },
        "route": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["h.example.org"]}},
    },
    "watched": {
        "no": {},
        "yes": {
            "config": {"tracing": {"enabled": True, "endpoint": "http://collector:4318", "sample_ratio": 0.05}},
            "monitoring": {
                "runbookUrl": "https://wiki.example.org/hits",
                "podMonitors": {"enabled": True, "namespace": "watchers", "labels": {"by": "us"}},
                "rules": {"enabled": True, "labels": {"by": "us"}, "grafanaUrl": "https://grafana.example.org"},
                "dashboards": {"enabled": True, "namespace": "watchers", "annotations": {"grafana_folder": "Hits"}},
            },
        },
    },
    "knobs": {
        "none": {},
        "registry": {
            "global": {
                "imageRegistry": "registry.example.org",
                "imagePullSecrets": ["yours"],
                "commonLabels": {"team": "hits"},
                "commonAnnotations": {"owner": "us"},
            }
        },
        "all": {
            part: {
                "priorityClassName": "high",
                "runtimeClassName": "gvisor",
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "a", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "podAnnotations": {"note": "x"},
                "podLabels": {"colour": "blue"},
                "extraEnv": [{"name": "TZ", "value": "UTC"}],
                "extraEnvFrom": [{"secretRef": {"name": "yours"}}],
                "extraVolumes": [{"name": "more", "emptyDir": {}}],
                "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
                "serviceAccount": {"create": False, "name": "yours"},
            }
            | (
                {}
                if part == "operator"
                else {"topologySpreadConstraints": [], "podDisruptionBudget": {"enabled": False}}
            )
            for part in ("api", "indexer", "operator")
        }
        | {
            "extraObjects": [
                "{apiVersion: v1, kind: ConfigMap, metadata: {name: of-{{ .Release.Name }}, labels: "
                "{app.kubernetes.io/component: mine}}}"
            ],
        },
    },
}

YOURS = "yours"
"""The name of every object in these values that the chart does not make."""


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over values, the way Helm does it."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            is_section = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = merge(merged[name], value) if is_section else value
    return merged


def choose_pairwise() -> list[dict[str, str]]:
    """Return positions of all switches such that any two positions of different switches meet somewhere."""
    chance = random.Random(0)
    names = list(SWITCHES)
    missing = {
        ((one, a), (two, b))
        for one, two in itertools.combinations(names, 2)
        for a, b in itertools.product(SWITCHES[one], SWITCHES[two])
    }
    chosen = []
    while missing:
        candidates = [_draw(chance, names, min(missing)) for _ in range(60)]
        best = max(candidates, key=lambda positions: len(missing & _pairs_of(positions)))
        missing -= _pairs_of(best)
        chosen.append(best)
    return chosen


def _draw(chance: random.Random, names: list[str], wanted: tuple[tuple[str, str], tuple[str, str]]) -> dict[str, str]:
    return {name: chance.choice(list(SWITCHES[name])) for name in names} | dict(wanted)


def _pairs_of(positions: Mapping[str, str]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return set(itertools.combinations(positions.items(), 2))


def build_pairwise() -> list[Case]:
    """Return the cases of all pairs; the names of some are as long as Helm lets a release be called."""
    cases = []
    for number, positions in enumerate(choose_pairwise()):
        name = ",".join(f"{switch}={position}" for switch, position in positions.items())
        values = merge(*(SWITCHES[switch][position] for switch, position in positions.items()))
        cases.append(
            Case(
                name,
                values,
                release="a-release-with-the-longest-name-that-helm-lets-you-gi" if number % 5 == 4 else "hc",
            )
        )
    return cases


def build_profiles() -> list[Case]:
    """Return the defaults, every values file that is in the repository, and how they are used together."""
    values, profiles = "charts/hitcounter/values-{}.yaml", "k8s/profiles/{}.yaml"
    dev = values.format("dev")
    samples = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "k8s/samples").glob("values-*.yaml"))
    stacks = [
        (dev,),
        (values.format("production"),),
        (values.format("restricted"),),
        (values.format("production"), values.format("restricted")),
        *((dev, profiles.format(path.stem)) for path in sorted((ROOT / "k8s/profiles").glob("*.yaml"))),
        *((sample,) for sample in samples),
    ]
    return [Case("defaults"), *(Case(" + ".join(stack), files=stack) for stack in stacks)]


PROFILES = build_profiles()
PAIRWISE = build_pairwise()
CASES = PROFILES + PAIRWISE
