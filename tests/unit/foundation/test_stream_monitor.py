"""What the settings of Redis say about the safety of hits."""

from __future__ import annotations

import pytest
from hitcounter.stream.monitor import find_aof_enabled


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"aof_enabled": 1, "loading": 0, "role": "master"}, True),
        ({"aof_enabled": 0, "loading": 0, "role": "master"}, False),
        ({"aof_enabled": 0}, False),
        ({"aof_enabled": 0, "loading": 1, "role": "master"}, None),
        ({"aof_enabled": 0, "loading": 0, "role": "slave"}, None),
        ({}, None),
    ],
)
def test_append_only_file_that_is_off_while_redis_loads_or_copies_is_no_setting(
    info: dict[str, object], expected: bool | None
) -> None:
    assert find_aof_enabled(info) is expected
