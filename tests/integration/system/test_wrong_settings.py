"""Wrong settings end every command at once, by the name of the variable, and no secret is in what anybody can read."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hitcounter_devstack import RedisServer
from hitcounter_devstack.services import command_path

from tests.integration.api.asking import ask, track
from tests.support.stack import Stack, wait_until

COMMANDS = (
    "hitcounter-api",
    "hitcounter-indexer",
    "hitcounter-indexer audit",
    "hitcounter-indexer retention --dry-run",
    "hitcounter-indexer dead-letters list",
    "hitcounter-operator",
)
MARK = "xq7zk9"
WRONG = {
    "HITCOUNTER_REDIS__URL": f"redis://:{MARK}@127.0.0.1:1/0?decode_responses=true",
    "HITCOUNTER_REDIS__CA_FILE": "/nonexistent.pem",
    "HITCOUNTER_ELASTICSEARCH__URL": f"http://elastic:{MARK}/x@127.0.0.1:1",
    "HITCOUNTER_ELASTICSEARCH__API_KEY": f"{MARK}\u00e9",
    "HITCOUNTER_MANAGEMENT__HOST": "300.0.0.1",
}


def read(url: str) -> str:
    """Return the body of an answer, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read(), "utf-8")


CASES = [
    *((command, "HITCOUNTER_ELASTICSEARCH__URL") for command in COMMANDS),
    *((COMMANDS[0], variable) for variable in WRONG),
]


@pytest.mark.parametrize(("command", "variable"), sorted(set(CASES)))
def test_wrong_setting_ends_every_command_with_status_2_and_one_line_that_names_it(command: str, variable: str) -> None:
    name, *arguments = command.split()
    result = subprocess.run(
        [command_path(name), *arguments],
        env={"PATH": os.environ["PATH"], variable: WRONG[variable]},  # noqa: TID251 - all that it needs from our environment
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert variable in line
    assert MARK not in line
    assert result.stdout == ""


@pytest.mark.parametrize("service", ["api", "indexer"])
def test_password_is_in_nothing_that_a_running_process_says(
    service: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    host = redis_server.url.removeprefix("redis://").partition("/")[0]
    environment = {
        "HITCOUNTER_REDIS__USERNAME": "nobody",
        "HITCOUNTER_REDIS__PASSWORD": f"{MARK}@/#?%:é\n",
        "HITCOUNTER_ELASTICSEARCH__API_KEY": f"{MARK}==\n",
    }
    with Stack(f"redis://{host}/0", f"http://elastic:{MARK}@127.0.0.1:1", tmp_path) as stack:
        if service == "api":
            api = stack.api(environment, is_awaited=False)
            process = api.service
            wait_until(process.log_text, lambda text: "waiting for Redis" in text)
            said = [track(api), ask(api, "/analytics/a"), ask(api, "/status")]
            assert [answer.status for answer in said] == [503, 503, 503]
            texts = [answer.body.decode() for answer in said]
        else:
            process = stack.indexer(environment, is_awaited=False)
            wait_until(process.log_text, lambda text: "username-password" in text)
            texts = []
        texts += [read(process.ready_url), process.log_text()]
    assert "WRONGPASS" in texts[-1] or "username-password" in texts[-1]
    assert MARK not in "".join(texts)
    assert "Traceback" not in texts[-1]
