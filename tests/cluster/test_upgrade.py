"""A new version, and back to the old one, while hits arrive: hardly anybody notices, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import Install
from tests.cluster.installation import RELEASE, SMALL, Installation
from tests.cluster.load import steady_load

RATE = 100.0
LONGEST_SECONDS = 900.0
HITS = 500
NEXT = "next"
CUT_SHARE = 0.005
"""Of requests that may be cut: one that leaves in the moment in which its idle connection is closed has no answer."""


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """An installation with several of each part of ours, and images of the same content under another tag."""
    made = install("upgrade")
    made.apply(SMALL)
    for service in ("api", "indexer"):
        (image,) = {pod["spec"]["containers"][0]["image"] for pod in made.pods(service)}
        made.node.tag_image(f"docker.io/library/{image}", f"docker.io/library/hitcounter-{service}:{NEXT}")
    return made


@pytest.mark.timeout(LONGEST_SECONDS)
def test_upgrade_and_rollback_under_load_lose_nothing(installation: Installation) -> None:
    values = {service: {"image": {"tag": NEXT}} for service in ("api", "indexer")}
    with steady_load(installation, RATE, LONGEST_SECONDS) as load:
        load.wait_for(HITS)
        installation.apply(SMALL, values=values)
        assert {pod["spec"]["containers"][0]["image"] for pod in installation.pods("api")} == {f"hitcounter-api:{NEXT}"}
        load.wait_for(HITS)
        installation.helm("rollback", RELEASE, "--wait")
        load.wait_for(HITS)
        load.stop()
        load.assert_counted_exactly()
    # Whoever got a 503 was told to come again; the others got no answer.
    unanswered = load.record.attempts["connection cut"] + load.record.attempts["time-out"]
    assert unanswered <= CUT_SHARE * load.record.sent_attempts, load.record.attempts
