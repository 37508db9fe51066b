"""Keys of a file in the running process: refused without one, and taken from a changed file without a restart."""

from __future__ import annotations

import hashlib
import http.client
import json
from pathlib import Path

from hitcounter_devstack import RedisServer

from tests.integration.api.asking import ask, manage
from tests.support.stack import Api, Stack, wait_until

NOWHERE = "http://127.0.0.1:1"
FAULT = "the keys file is not valid"


def write_keys(path: Path, *tokens: str) -> None:
    """Replace the file, as a Secret is replaced."""
    keys = [
        {"name": token, "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": ["track"]} for token in tokens
    ]
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": keys}))
    new.replace(path)


def track_with(api: Api, token: str) -> int:
    """POST one hit with the token, and return the status."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)
    try:
        connection.request("POST", "/analytics", b'{"id":"a"}', {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_keys_are_taken_from_the_file_while_the_api_runs(redis_server: RedisServer, folder: Path) -> None:
    path = folder / "keys.json"
    write_keys(path, "hc_first")
    with Stack(redis_server.url, NOWHERE, folder) as stack:
        api = stack.api(HITCOUNTER_ACCESS__MODE="keys", HITCOUNTER_ACCESS__KEYS_FILE=str(path))
        assert ask(api, "/analytics", b'{"id":"a"}').status == 401
        assert track_with(api, "hc_first") == 204
        path.write_text("keys: [")
        wait_until(lambda: manage(api, "/readyz").json["warnings"], lambda warnings: FAULT in warnings.get("keys", ""))
        assert b"hitcounter_keys_file_invalid 1.0" in manage(api, "/metrics").body
        assert track_with(api, "hc_first") == 204
        write_keys(path, "hc_second")
        wait_until(lambda: track_with(api, "hc_second"), lambda status: status == 204)
        assert track_with(api, "hc_first") == 401
        assert manage(api, "/readyz").json["warnings"] == {}
        text = api.service.log_text()
        assert FAULT in text
        assert "hc_" not in text
