"""Calls a control plane: whether it is ready, and any kubectl command."""

import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from hitcounter_devstack.errors import DevstackError

from hitcounter_cluster.control_plane import ControlPlane
from hitcounter_cluster.programs import KUBECTL, require_program


def api_answers(plane: ControlPlane) -> bool:
    """Say whether the API server serves."""
    context = ssl.create_default_context(cafile=str(plane.authority.own.certificate))
    request = urllib.request.Request(f"{plane.url}/readyz", headers={"Authorization": f"Bearer {plane.token}"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with direct.open(request, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def run_kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it printed.

    Raises:
        DevstackError: it failed; with what it said.
    """
    command = [str(require_program(KUBECTL)), f"--kubeconfig={kubeconfig}", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
    if answer.returncode != 0:
        raise DevstackError(f"kubectl {' '.join(arguments)} failed: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout
