"""The Redis users of the chart, for every Redis started here, so that a test fails if a user lacks a permission.

The user `default` has all permissions and no password; tests and people use it.
"""

import re
from collections.abc import Mapping

from hitcounter_devstack.environment import checkout

USERS_FILE = "charts/hitcounter/charts/redis/files/users.yaml"
PASSWORD = "of-this-machine"  # noqa: S105 - of servers that listen on this machine only
"""The password of each of them."""

_SINCE_7_2 = ("+waitaof", "+client|setinfo")


def read_users() -> dict[str, str]:
    """Return the rules of each user as the chart has them, for any prefix; none outside of a checkout."""
    file = checkout() / USERS_FILE
    found = re.findall(r"^(\w+):\n((?:  .+\n)+)", file.read_text(), re.MULTILINE) if file.exists() else []
    return {name: " ".join(rules.split()).replace("{prefix}", "{*}") for name, rules in found}


def build_access_list(version: str) -> str:
    """Return the access list of a Redis of this version."""
    users = {"default": "on nopass ~* &* +@all"}
    for name, rules in read_users().items():
        known = [rule for rule in rules.split() if _is_since_7_2(version) or rule not in _SINCE_7_2]
        users[name] = f"on >{PASSWORD} {' '.join(known)}"
    return "".join(f"user {name} {rules}\n" for name, rules in users.items())


def build_credentials(name: str) -> Mapping[str, str]:
    """Return the environment by which a service is this user."""
    return {"HITCOUNTER_REDIS__USERNAME": name, "HITCOUNTER_REDIS__PASSWORD": PASSWORD}


def _is_since_7_2(version: str) -> bool:
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    return not numbers or numbers >= [7, 2]
