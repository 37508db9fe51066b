"""Nothing that is committed belongs to one machine or to one network."""

from __future__ import annotations

import re

import pytest

from tests.consistency.workspace import committed_texts

FOREIGN = {
    "a home folder or a checkout of somebody's": r"(?<![\w.])(?<!\w\")/(?:root|home|Users|work|mnt|workspace)/[\w.-]+",
    "the host of a package registry": r"(?:pypi|pythonhosted|npmjs|rubygems|crates|maven|maven\.apache)\.(?:org|io)\b"
    r"|proxy\.golang\.org",
    "the address of a package index": r"--(?:extra-)?index-url[= ]|https?://[^/\s\"']*(?:artifactory|nexus|registry|mirror)",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_no_committed_file_holds(what: str) -> None:
    pattern = re.compile(FOREIGN[what])
    found = {
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in committed_texts()
        for match in pattern.finditer(text)
    }
    assert not found
