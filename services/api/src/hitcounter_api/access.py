"""Access: which key a request has, and whether its scope allows the route (docs/security.md).

`Access.admit` resolves the caller of every request, on the fast path and on the ASGI path. It is called before the body
is read on the ASGI path, and before it is decoded on the fast path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from hitcounter_api.keys import Caller, KeySet, Scope
from hitcounter_api.problems import Kind, Problem

ROUTE_SCOPES: Final[Mapping[tuple[str, str], Scope | None]] = {
    ("POST", "/analytics"): Scope.TRACK,
    ("POST", "/analytics/batch"): Scope.TRACK,
    ("GET", "/analytics/{id:any_text}"): Scope.READ,
    ("GET", "/history/{id:any_text}"): Scope.READ,
    ("GET", "/status"): Scope.ADMIN,  # it tells the traffic of all ids
    ("GET", "/"): None,  # the page has no data of its own
    ("GET", "/docs"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/livez"): None,
}
"""The scope that each route needs; None: anyone may use it. HEAD is as GET. A route that is not here answers 500."""

_BEARER: Final = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/-]{1,512}=*)[ \t]*")
"""RFC 6750, 2.1."""
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]{1,512}=*")
_REALM: Final = 'Bearer realm="hitcounter"'


class KeySource(Protocol):
    """Has the keys that are valid now."""

    @property
    def keys(self) -> KeySet:
        """The keys, which may be others at the next request."""


class Access:
    """Admits requests by their keys."""

    def __init__(self, source: KeySource) -> None:
        self._source = source

    def admit(self, scope: Scope, authorization: bytes | None, url_keys: Sequence[bytes] = ()) -> Caller:
        """Return who sends the request.

        Args:
            scope: what the route needs.
            authorization: the Authorization header; of several, all, separated by commas.
            url_keys: the tokens in the URL, as `take_url_keys` returns them.

        Raises:
            Problem: the request has no valid key, or one that does not allow this.
        """
        keys = self._source.keys
        caller = keys.remembered.get(authorization)
        if caller is None or url_keys:
            caller = _find_caller(keys, scope, authorization, url_keys if scope is Scope.TRACK else ())
        if scope not in caller.scopes:
            challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
            detail = f"the key {caller.name} does not have the scope {scope}"
            raise Problem(Kind.FORBIDDEN, detail, headers=[("www-authenticate", challenge)])
        return caller


def check_id(caller: Caller | None, id_: str) -> None:
    """Check that the caller may use the id. None: everybody may do everything.

    Raises:
        Problem: it may not.
    """
    if caller is not None and not caller.may_use(id_):
        detail = "the key does not allow this id: it has none of the prefixes of the key"
        raise Problem(Kind.FORBIDDEN, detail, {"field": "id"})


def find_authorization(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the Authorization header; several are joined, which no key matches (RFC 9110, 5.3)."""
    values = [value for name, value in headers if name == b"authorization"]
    return b", ".join(values) if values else None


def take_url_keys(query: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the query without `key` parameters, and their values. So no log line and no trace shows a token."""
    if not query:
        return query, ()
    kept, keys = [], []
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_to_bytes(name) == b"key":
            keys.append(unquote_to_bytes(value))
        else:
            kept.append(pair)
    return b"&".join(kept), tuple(keys)


def _find_caller(keys: KeySet, scope: Scope, authorization: bytes | None, url_keys: Sequence[bytes]) -> Caller:
    if authorization is not None and url_keys:
        raise _unauthorized("the request has a key in the header and in the URL", "invalid_request")
    if authorization is not None:
        return _find_by_header(keys, authorization)
    if url_keys:
        return _find_by_url(keys, url_keys)
    if keys.anonymous is None or scope not in keys.anonymous.scopes:  # with a key it may be allowed: not 403
        raise _unauthorized("the request has no key; send it as Authorization: Bearer …")
    return keys.anonymous


def _find_by_header(keys: KeySet, authorization: bytes) -> Caller:
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise _unauthorized("the Authorization header is not one bearer token", "invalid_request")
    caller = _find(keys, match[1])
    if authorization == b"Bearer " + match[1]:  # one form for each key: of others, with spaces, there are thousands
        keys.remembered[authorization] = caller
    return caller


def _find_by_url(keys: KeySet, tokens: Sequence[bytes]) -> Caller:
    if len(tokens) > 1 or _TOKEN.fullmatch(tokens[0]) is None:
        raise _unauthorized("the URL does not have one key", "invalid_request")
    caller = _find(keys, tokens[0])
    if caller.scopes != {Scope.TRACK}:  # URLs are written into the logs of proxies
        raise _unauthorized("a key with more than the scope track must not be sent in a URL", "invalid_request")
    return caller


def _find(keys: KeySet, token: bytes) -> Caller:
    caller = keys.find(token)
    if caller is None:
        raise _unauthorized("the key is not known", "invalid_token")
    return caller


def _unauthorized(detail: str, error: str = "") -> Problem:
    challenge = f'{_REALM}, error="{error}"' if error else _REALM
    return Problem(Kind.UNAUTHORIZED, detail, headers=[("www-authenticate", challenge)])
