"""The page at /: there only where it is asked for, and closed to everything but itself."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.contract.api.server import Server


@pytest.fixture(scope="module")
def server_with_page() -> Iterator[Server]:
    with Server(has_page=True) as server:
        yield server


class Addresses(HTMLParser):
    """Everything in the page that a browser would follow or fetch by itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src", "action", "data", "srcset")]


def test_there_is_no_page_unless_it_is_switched_on(server: Server) -> None:
    reply = server.ask("GET", "/")
    assert (reply.status, reply.kind) == (404, "not-found")


def test_the_page_is_one_file_that_names_nobody_else(server_with_page: Server) -> None:
    reply = server_with_page.ask("GET", "/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    addresses = Addresses(reply.body.decode()).found
    assert sorted(address for address in addresses if not address.startswith("data:")) == ["docs", "status", "status"]


def test_the_page_may_ask_its_own_api_and_nothing_else(server_with_page: Server) -> None:
    policy = dict(
        rule.split(" ", 1) for rule in server_with_page.ask("GET", "/").headers["content-security-policy"].split("; ")
    )
    assert policy.pop("script-src").startswith("'sha256-")
    assert policy.pop("style-src").startswith("'sha256-")
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_other_methods_than_get_are_refused(server_with_page: Server) -> None:
    reply = server_with_page.ask("POST", "/")
    assert (reply.status, reply.kind) == (405, "method-not-allowed")
    assert server_with_page.ask("HEAD", "/").status == 200
