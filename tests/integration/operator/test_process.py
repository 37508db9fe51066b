"""The command hitcounter-operator as a process, without a Kubernetes: it is alive, reports it, and ends when asked."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hitcounter_devstack import free_port
from hitcounter_devstack.ports import http_status
from hitcounter_devstack.services import Service, command_path

from tests.support.stack import wait_until

NOWHERE = {
    "HITCOUNTER_REDIS__URL": "redis://127.0.0.1:1",
    "HITCOUNTER_ELASTICSEARCH__URL": "http://127.0.0.1:1",
    "KUBECONFIG": "/nowhere",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_operator_without_kubernetes_lives_says_what_it_waits_for_and_ends_when_asked(
    tmp_path: Path, number: signal.Signals
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    operator = Service(
        [command_path("hitcounter-operator")],
        log_file=tmp_path / "operator.log",
        ready_url=f"{url}/livez",
        environment=NOWHERE | {"HITCOUNTER_MANAGEMENT__PORT": str(port)},
    )
    with operator.start().wait_ready():
        wait_until(lambda: operator.log_text().count("will try again"), lambda logins: logins > 0)
        assert http_status(f"{url}/readyz") == 503
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"{url}/readyz", timeout=5)
        assert "kubernetes" in answer.value.read().decode().lower()
        answer.value.close()
        operator.send_signal(number)
        assert operator.wait(20) == 0
