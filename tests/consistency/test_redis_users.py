"""Each user that the chart makes in Redis is permitted every command of every script and method that it runs.

The levels with real servers run as these users, too (hitcounter_devstack/redis_users.py), but not through every branch.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import pytest
from hitcounter import redis_client
from hitcounter.settings import RedisSettings
from hitcounter.stream import AsOfRegister, DeadLetters, StreamConsumer, StreamMonitor, StreamProducer, open_stream
from hitcounter_devstack.redis_users import read_users

from tests.consistency.workspace import ROOT

SCRIPTS = {path.stem: path.read_text() for path in (ROOT / "packages/hitcounter/src/hitcounter/scripts").glob("*.lua")}
ROLES: dict[str, type] = {
    "producer": StreamProducer,
    "consumer": StreamConsumer,
    "as_of": AsOfRegister,
    "dead_letters": DeadLetters,
    "monitor": StreamMonitor,
}
METHODS = {
    f"{role}.{name}"
    for role, found in ROLES.items()
    for name, _ in inspect.getmembers(found, inspect.iscoroutinefunction)
    if not name.startswith("_") and name != "aclose"
}
LOOKS = {"monitor.status", "monitor.memory", "monitor.ping"}
RUN_BY = {
    "api": {"producer.append"} | LOOKS,
    "operator": {"consumer.ensure_group"} | LOOKS,
    "indexer": METHODS - {"producer.append"},
}
CALLED_OF_REDIS_PY = {"xpending_range": "xpending"}
NOT_COMMANDS = {"connection_pool", "pipeline", "execute"}
EVERY_CONNECTION = {"auth", "client|setinfo", "client|setname", "hello", "ping", "select"}


def commands_of_script(name: str) -> set[str]:
    calls = re.findall(r"redis\.p?call\('(\w+)'(?:, '(\w+)')?", SCRIPTS[name])
    assert len(calls) == len(re.findall(r"redis\.p?call\(", SCRIPTS[name])), f"{name}: a command is not in the clear"
    return {f"{command}|{sub}".lower() if command in ("XGROUP", "XINFO") else command.lower() for command, sub in calls}


def attributes(tree: ast.AST) -> Iterator[list[str]]:
    """Return what is taken from self, or from a pipeline: ["_redis", "xdel"] for self._redis.xdel and pipeline.xdel."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Name):
            if isinstance(node.value, ast.Attribute) and isinstance(node.value.value, ast.Name):
                yield [node.value.attr, node.attr]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield ["_redis", node.attr] if node.value.id == "pipeline" else [node.attr]


def commands_of_method(method: str) -> set[str]:
    """Return what a method of a role sends, by itself, by a script, or by another method."""
    role, _, name = method.partition(".")
    (tree,) = [node for node in ast.walk(ast.parse(inspect.getsource(ROLES[role]))) if is_method(node, name)]
    found: set[str] = set()
    for names in attributes(tree):
        if names[0] == "_redis" and len(names) > 1 and names[1] not in NOT_COMMANDS:
            found.add(CALLED_OF_REDIS_PY.get(names[1], names[1]))
        elif names[0].removeprefix("_") in SCRIPTS and names[0].startswith("_"):
            found |= {"evalsha", "script|load"} | commands_of_script(names[0].removeprefix("_"))
        elif names[0] == "_accept_connections":
            found |= commands_of_accept_connection() | commands_of_script("accept")
        elif names[0] != name and hasattr(ROLES[role], names[0]):
            found |= commands_of_method(f"{role}.{names[0]}")
    return found


def is_method(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == name


def commands_of_accept_connection() -> set[str]:
    sent = re.findall(r'(?:_call\(connection|send_command\(), "(\w+)"(?:, "(\w+)")?', inspect.getsource(redis_client))
    sent += re.findall(r'send_command\("(\w+)"(?:, "(\w+)")?', inspect.getsource(redis_client))
    return {f"{command}|{sub}".lower() if command == "SCRIPT" else command.lower() for command, sub in sent}


def is_permitted(command: str, rules: str) -> bool:
    permitted = set(re.findall(r"\+([\w|]+)", rules))
    return command in permitted or command.split("|")[0] in permitted


@pytest.mark.parametrize("user", RUN_BY)
def test_user_is_permitted_every_command_that_it_sends(user: str) -> None:
    sent = EVERY_CONNECTION.union(*(commands_of_method(method) for method in RUN_BY[user]))
    assert not {command for command in sent if not is_permitted(command, read_users()[user])}


@pytest.mark.parametrize("user", RUN_BY)
def test_user_is_permitted_nothing_that_it_does_not_send(user: str) -> None:
    sent = EVERY_CONNECTION.union(*(commands_of_method(method) for method in RUN_BY[user]))
    assert set(re.findall(r"\+([\w|]+)", read_users()[user])) - sent == set()


def test_every_script_is_run_by_somebody() -> None:
    code = "".join(inspect.getsource(role) for role in ROLES.values())
    assert SCRIPTS.keys() - {"accept"} <= set(re.findall(r"self\._(\w+)\(", code))
    assert read_users().keys() == RUN_BY.keys()


async def test_stream_has_exactly_these_roles() -> None:
    async with open_stream(RedisSettings()) as stream:
        roles = {name: type(role) for name, role in vars(stream).items() if type(role) in ROLES.values()}
    assert roles == ROLES
