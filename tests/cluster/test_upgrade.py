"""A new version, and back to the old one, while hits arrive: hardly anybody notices, and nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_cluster.node import Node
from hitcounter_cluster.our_images import our_images

from tests.cluster.conftest import Install
from tests.cluster.installation import RELEASE, ROOT, SMALL, Installation, Values
from tests.cluster.load import Load, steady_load

RATE = 100.0
LONGEST_SECONDS = 900.0
HITS = 500
SERVICES = ("api", "indexer")
REGISTRY = "docker.io/library"
NEXT = "next"
PREVIOUS = "0385d29"
"""Nothing has been released yet: the commit before this level was whole."""
CUT_SHARE = 0.005
"""Of requests that may be cut: one that leaves in the moment in which its idle connection is closed has no answer."""


@pytest.mark.timeout(LONGEST_SECONDS)
def test_upgrade_and_rollback_under_load_lose_nothing(install: Install) -> None:
    installation = install("upgrade")
    installation.apply(SMALL)
    for service in SERVICES:
        (image,) = {pod["spec"]["containers"][0]["image"] for pod in installation.pods(service)}
        installation.node.tag_image(f"{REGISTRY}/{image}", f"{REGISTRY}/hitcounter-{service}:{NEXT}")
    with steady_load(installation, RATE, LONGEST_SECONDS) as load:
        load.wait_for(HITS)
        installation.apply(SMALL, values=tagged(NEXT))
        assert images_of(installation) == {f"hitcounter-{service}:{NEXT}" for service in SERVICES}
        load.wait_for(HITS)
        installation.helm("rollback", RELEASE, "--wait")
        load.wait_for(HITS)
        load.stop()
        load.assert_counted_exactly()
    assert_hardly_anybody_noticed(load)


@pytest.mark.timeout(LONGEST_SECONDS)
def test_new_settings_replace_the_pods_and_lose_nothing(install: Install) -> None:
    installation = install("settings")
    installation.apply(SMALL)
    before = names_of_pods(installation)
    with steady_load(installation, RATE, LONGEST_SECONDS) as load:
        load.wait_for(HITS)
        installation.apply(SMALL, values={"config": {"log": {"level": "debug"}}})
        assert not before & names_of_pods(installation)
        load.wait_for(HITS)
        load.stop()
        load.assert_counted_exactly()
    assert_hardly_anybody_noticed(load)


@pytest.mark.full
@pytest.mark.timeout(2 * LONGEST_SECONDS)
def test_older_chart_and_images_give_way_and_come_back(install: Install, older: Path) -> None:
    installation = install("older")
    installation.apply(SMALL, values=tagged("older"), chart=older / "charts/hitcounter")
    with steady_load(installation, RATE, LONGEST_SECONDS) as load:
        load.wait_for(HITS)
        installation.apply(SMALL)
        assert not {image for image in images_of(installation) if image.endswith(":older")}
        load.wait_for(HITS)
        installation.helm("rollback", RELEASE, "--wait")
        assert images_of(installation) == {f"hitcounter-{service}:older" for service in SERVICES}
        load.wait_for(HITS)
        load.stop()
        load.assert_counted_exactly()
    assert_hardly_anybody_noticed(load)


@pytest.fixture
def older(node: Node, tmp_path: Path) -> Iterator[Path]:
    """A checkout of an older commit, whose images the node has under the tag `older`."""
    checkout = tmp_path / "older"
    git("worktree", "add", "--detach", str(checkout), PREVIOUS)
    try:
        subprocess.run(["tools/images.sh", "--save"], cwd=checkout, check=True)
        names = [name for name in our_images() if name.rpartition("-")[2].partition(":")[0] in SERVICES]
        for name in names:
            program = name.rpartition("/")[2].partition(":")[0]
            node.tag_image(name, f"{REGISTRY}/{program}:ours")
            # It has the same name as ours, and takes its place for a moment.
            node.import_image(checkout / f"dist/images/{program}.tar")
            node.tag_image(name, f"{REGISTRY}/{program}:older")
            node.tag_image(f"{REGISTRY}/{program}:ours", name)
        yield checkout
    finally:
        git("worktree", "remove", "--force", str(checkout))


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


def tagged(tag: str) -> Values:
    return {service: {"image": {"tag": tag}} for service in SERVICES}


def images_of(installation: Installation) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for service in SERVICES for pod in installation.pods(service)}


def names_of_pods(installation: Installation) -> set[str]:
    return {pod["metadata"]["name"] for service in SERVICES for pod in installation.pods(service)}


def assert_hardly_anybody_noticed(load: Load) -> None:
    """Whoever got a 503 was told to come again; the others got no answer."""
    unanswered = load.record.attempts["connection cut"] + load.record.attempts["time-out"]
    assert unanswered <= CUT_SHARE * load.record.sent_attempts, load.record.attempts
