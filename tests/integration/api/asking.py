"""Asking a running API, with the answer to a refusal as an answer like any other."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tests.support.stack import Api


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, and how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(api: Api, path: str, body: bytes | None = None) -> Reply:
    """GET the path, or POST the body to it."""
    return _ask(api.url + path, body)


def manage(api: Api, path: str) -> Reply:
    """GET the path at the management port."""
    return _ask(api.service.ready_url.removesuffix("/readyz") + path)


def _ask(url: str, body: bytes | None = None) -> Reply:
    started = time.monotonic()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
            return Reply(answer.status, _lower(answer.headers), answer.read(), time.monotonic() - started)
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, _lower(error.headers), error.read(), time.monotonic() - started)


def track(api: Api, id_: str = "a") -> Reply:
    """POST one hit."""
    return ask(api, "/analytics", json.dumps({"id": id_}).encode())


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
