"""The walls have a door, on both sides, wherever one part speaks to another, and none where it does not."""

from __future__ import annotations

import pytest

from tests.chart.cases import merge
from tests.chart.rendering import Case, Manifest, Rendering, Values, component_of, render, selects

PORTS = {"api": 8001, "redis": 6379, "elasticsearch": 9200, "indexer": 8082}
EDGES = {
    ("api", "redis"),
    ("api", "elasticsearch"),
    ("indexer", "redis"),
    ("indexer", "elasticsearch"),
    ("test", "api"),
}
"""Who calls whom, among our own, where there is no operator."""
EDGES_OF_THE_OPERATOR = {("operator", "redis"), ("operator", "elasticsearch")}

KEDA = {"kubernetes.io/metadata.name": "keda"}
INGRESS = {"name": "ingress"}
STATUS: Values = {"autoscaling": {"mode": "keda", "keda": {"source": "status"}}}
OPERATOR: Values = {"operator": {"enabled": True}}
NOTHING: Values = {}
WALLED: Values = {"networkPolicy": {"apiFrom": [{"namespaceSelector": {"matchLabels": INGRESS}}]}}
UNWATCHED: Values = {"networkPolicy": {"prometheusFrom": []}}


def policy_of(rendering: Rendering, component: str) -> Manifest:
    spec: Manifest = rendering.one("NetworkPolicy", component)["spec"]
    return spec


def lets_through(
    rules: list[Manifest], peers: str, port: int, labels: dict[str, str], namespace: dict[str, str]
) -> bool:
    """Say whether some rule has the port, and the peer by its own labels or those of its namespace, or anybody."""
    for rule in rules:
        if "ports" in rule and port not in {item["port"] for item in rule["ports"]}:
            continue
        if peers not in rule:
            return True
        for peer in rule[peers]:
            if "podSelector" in peer and selects(peer["podSelector"]["matchLabels"], labels):
                return True
            if "namespaceSelector" in peer and selects(peer["namespaceSelector"].get("matchLabels", {}), namespace):
                return True
            if peer == {"namespaceSelector": {}} and namespace:
                return True
    return False


def may_call(rendering: Rendering, caller: str, called: str) -> bool:
    ours, theirs = rendering.pod(caller).labels, rendering.pod(called).labels
    out = lets_through(policy_of(rendering, caller)["egress"], "to", PORTS[called], theirs, {})
    return out and lets_through(policy_of(rendering, called)["ingress"], "from", PORTS[called], ours, {})


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        (NOTHING, EDGES),
        (WALLED, EDGES),
        (OPERATOR, EDGES | EDGES_OF_THE_OPERATOR),
    ],
    ids=["defaults", "walled", "operator"],
)
def test_our_own_may_call_exactly_whom_they_need(values: Values, edges: set[tuple[str, str]]) -> None:
    rendering = render(Case("", merge(values, UNWATCHED)))
    callers = {caller for caller, _ in edges}
    allowed = {
        (caller, called)
        for caller in callers
        for called in PORTS
        if caller != called and may_call(rendering, caller, called)
    }
    assert allowed == edges


def test_every_pod_is_behind_a_wall(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        if policies := rendering.all("NetworkPolicy"):
            for pod in rendering.pods():
                (policy,) = [
                    item for item in policies if selects(item["spec"]["podSelector"]["matchLabels"], pod.labels)
                ]
                assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_stores_of_yours_are_let_out_to_by_their_ports(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        values = rendering.case.values
        if not rendering.all("NetworkPolicy") or rendering.case.files:
            continue
        wanted = set()
        for url in values.get("externalElasticsearch", {}).get("urls", []):
            wanted.add(int(url.rpartition(":")[2]) if url.count(":") == 2 else 443)
        if external := values.get("externalRedis"):
            wanted |= {external.get("port", 6379)}
            wanted |= {int(node.rpartition(":")[2]) for node in external.get("sentinel", {}).get("nodes", [])}
        of_pods = {component_of(pod.template) for pod in rendering.pods()}
        for component in of_pods & {"api", "indexer", "operator"}:
            for port in wanted:
                assert lets_through(policy_of(rendering, component)["egress"], "to", port, {}, {}), rendering.case.name


def test_names_can_be_looked_up(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for policy in rendering.all("NetworkPolicy"):
            if component_of(policy) != "redis":  # it calls nobody
                assert lets_through(policy["spec"]["egress"], "to", 53, {}, {})


def test_prometheus_reaches_every_management_port() -> None:
    only_m: Values = {"networkPolicy": {"prometheusFrom": [{"namespaceSelector": {"matchLabels": {"name": "m"}}}]}}
    for values in (NOTHING, only_m):
        rendering = render(Case("", merge(values, OPERATOR)))
        for component, port in [("api", 8081), ("indexer", 8082), ("operator", 8083)]:
            assert lets_through(policy_of(rendering, component)["ingress"], "from", port, {}, {"name": "m"})
            if values:
                assert not lets_through(policy_of(rendering, component)["ingress"], "from", port, {}, {"name": "x"})


def test_keda_is_let_in_only_where_it_reads_the_status() -> None:
    for values, is_let_in in ((WALLED, False), (merge(WALLED, STATUS), True)):
        rules = policy_of(render(Case("", values)), "api")["ingress"]
        assert lets_through(rules, "from", 8001, {}, KEDA) is is_let_in
        assert lets_through(rules, "from", 8001, {}, INGRESS)


def test_operator_alone_reaches_kubernetes_at_the_ports_of_the_values() -> None:
    ports: Values = {"networkPolicy": {"kubernetesPorts": [443, 16443]}}
    rendering = render(Case("", merge(OPERATOR, ports)))
    for component, may in [("operator", True), ("api", False), ("indexer", False)]:
        for port in (443, 16443):
            assert lets_through(policy_of(rendering, component)["egress"], "to", port, {}, {}) is may


def test_nodes_of_elasticsearch_reach_each_other_and_nobody_else_does() -> None:
    rendering = render(Case("", {"elasticsearch": {"replicas": 3}}))
    policy, labels = policy_of(rendering, "elasticsearch"), rendering.pod("elasticsearch").labels
    assert lets_through(policy["egress"], "to", 9300, labels, {})
    assert lets_through(policy["ingress"], "from", 9300, labels, {})
    assert not lets_through(policy["ingress"], "from", 9300, rendering.pod("api").labels, {})


def test_walled_api_of_a_keda_without_peers_lets_in_only_the_listed_ones() -> None:
    values = merge(WALLED, STATUS, {"networkPolicy": {"kedaFrom": []}})
    rules = policy_of(render(Case("", values)), "api")["ingress"]
    assert lets_through(rules, "from", 8001, {}, INGRESS)
    assert not lets_through(rules, "from", 8001, {}, KEDA)
