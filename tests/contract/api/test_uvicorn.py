"""What protocol.py leans on in uvicorn and httptools beyond their documented interfaces.

A new minor version of uvicorn is taken by raising the limit in services/api/pyproject.toml, once these tests hold.
"""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import cast

import httptools
import pytest
from hitcounter_api.protocol import ApiProtocol
from packaging.requirements import Requirement
from uvicorn import Server as UvicornServer
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tests.contract.api.server import Server
from tests.contract.api.wire import Wire

API_PROJECT = Path(__file__).parents[3] / "services/api/pyproject.toml"

OVERRIDDEN = {
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "eof_received": [],
    "pause_writing": [],
    "resume_writing": [],
    "on_message_begin": [],
    "on_header": ["name", "value"],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "on_response_complete": [],
    "_start_asgi_task": ["cycle", "app"],
    "timeout_keep_alive_handler": [],
}
"""Methods that ours replace or extend, and what they are called with."""
CALLED: dict[str, list[str]] = {
    "_unset_keepalive_if_required": [],
    "shutdown": [],
}
"""Methods that stay uvicorn's, and that ours call or rely on."""
ATTRIBUTES = {
    "app",
    "connections",
    "cycle",
    "expect_100_continue",
    "flow",
    "headers",
    "limit_concurrency",
    "loop",
    "parser",
    "pipeline",
    "scope",
    "server_state",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
}
CYCLE_ATTRIBUTES = {"disconnected", "keep_alive", "message_event", "response_complete"}
"""What uvicorn's protocol looks at in a cycle: those of the fast path have the same. `more_body` is one, too."""


def parameters_of(method: object) -> list[str]:
    assert callable(method)
    return [name for name in inspect.signature(method).parameters if name != "self"]


def test_uvicorn_is_pinned_below_its_next_minor_version() -> None:
    dependencies = tomllib.loads(API_PROJECT.read_text())["project"]["dependencies"]
    (uvicorn,) = [found for line in dependencies if (found := Requirement(line)).name == "uvicorn"]
    major, minor, *_ = map(int, version("uvicorn").split("."))
    assert uvicorn.specifier.contains(f"{major}.{minor}.99")
    assert not uvicorn.specifier.contains(f"{major}.{minor + 1}.0")


@pytest.mark.parametrize(("name", "parameters"), (OVERRIDDEN | CALLED).items())
def test_uvicorns_protocol_has_the_methods_that_ours_extends_or_calls(name: str, parameters: list[str]) -> None:
    assert parameters_of(getattr(HttpToolsProtocol, name)) == parameters


def test_ours_overrides_nothing_of_uvicorns_that_is_not_listed_here() -> None:
    ours = {
        name for name in vars(ApiProtocol) if callable(getattr(ApiProtocol, name)) and hasattr(HttpToolsProtocol, name)
    }
    assert {name for name in ours if not name.startswith("__")} == set(OVERRIDDEN)


def test_uvicorns_flow_control_and_status_lines_are_as_we_use_them() -> None:
    assert {"pause_reading", "resume_reading", "read_paused", "write_paused"} <= set(dir(FlowControl(None)))  # type: ignore[arg-type]
    assert STATUS_LINE[204] == b"HTTP/1.1 204 No Content\r\n"


def test_a_connection_has_the_attributes_that_are_read_and_set(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send([b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"])
        assert wire.read_statuses(1) == (404,)
        assert server._server is not None
        connections = cast(list[ApiProtocol], list(server._server.server_state.connections))
        (connection,) = [each for each in connections if each.cycle is not None]
        assert vars(connection).keys() >= ATTRIBUTES
        assert isinstance(connection.cycle, RequestResponseCycle)
        assert vars(connection.cycle).keys() >= CYCLE_ATTRIBUTES | {"more_body"}


def test_uvicorn_makes_a_new_list_of_default_headers_with_each_date() -> None:
    """The 204 of a hit is rendered anew whenever it is another list."""
    assert "self.server_state.default_headers = date_header" in inspect.getsource(UvicornServer.on_tick)


def test_an_exception_within_the_parser_is_the_context_of_what_it_raises() -> None:
    class Callbacks:
        def on_headers_complete(self) -> None:
            raise LookupError("within")

    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        httptools.HttpRequestParser(Callbacks()).feed_data(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(caught.value.__context__, LookupError)


def test_the_parser_says_where_a_head_ends_that_offers_an_upgrade() -> None:
    head = b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as caught:
        httptools.HttpRequestParser(object()).feed_data(memoryview(head + b"abc"))
    assert caught.value.args == (len(head),)
