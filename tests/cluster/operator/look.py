"""Prints `kubectl get hc` and `kubectl describe hc` of an installation under load, as docs/operator.md shows them.

    .venv/bin/python -m tests.cluster.operator.look

Everything is real but the pods: there is no node, so the Deployment that is scaled up gets no more indexers.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from hitcounter_cluster.api_server import ApiServer
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.cluster.operator.installation import ROOT, Installation
from tests.support.stack import Api, Stack, wait_until

NAME = "hitcounter"
LOAD_SECONDS = 20.0
BATCH_HITS = 10_000
PAUSE_SECONDS = 0.2


def main() -> None:
    """Run the installation, and print both."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hitcounter-")))
        folder.chmod(0o755)  # Elasticsearch runs as a user of its own where we are root
        server = stack.enter_context(ApiServer(folder / "api-server"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        elasticsearch = stack.enter_context(ElasticsearchServer(folder / "elasticsearch"))
        server.kubectl("apply", "--server-side", "-f", str(ROOT / "charts/hitcounter/crds"))
        server.kubectl("wait", "--for=condition=Established", "crd/hitcounters.hitcounter.io", "--timeout=30s")
        parts = stack.enter_context(Stack(redis.url, elasticsearch.url, folder))
        parts.name = NAME
        show(server, stack.enter_context(Installation(server, parts, folder)))


def show(server: ApiServer, installation: Installation) -> None:
    """Load it, and print what kubectl says while the backlog drains and afterwards."""
    api = installation.stack.api()
    installation.deploy()
    installation.run_indexer()
    installation.run_operator(HITCOUNTER_OPERATOR__INTERVAL_SECONDS="5")
    installation.create(scaling={"hitsPerBusySecond": 2000, "maxReplicas": 6})
    installation.wait_for(Ready="True AllWell")
    load = threading.Thread(target=send, args=(api,))
    load.start()
    wait_until(installation.replicas, lambda replicas: replicas > 1)
    wait_until(installation.status, lambda status: status.get("replicas", 0) > 1)
    for command in ("get", "describe"):
        sys.stdout.write(f"$ kubectl {command} hc\n{server.kubectl(command, 'hc', '--namespace', NAME)}\n")
    load.join()


def send(api: Api) -> None:
    """Send batches for a while."""
    body = json.dumps([{"id": f"page-{number}"} for number in range(BATCH_HITS)]).encode()
    until = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < until:
        request = urllib.request.Request(f"{api.url}/analytics/batch", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=30):
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
