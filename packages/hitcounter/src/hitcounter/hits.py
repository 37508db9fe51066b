"""A hit: an id was hit at a time, with a weight. This module has its rules and limits.

It decides what a client may send, and knows nothing about HTTP, Redis or Elasticsearch. Times are integer milliseconds
since the Unix epoch, UTC: the finest resolution that windows, contract and indices share.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from hitcounter.errors import InvalidHit

ID_MAX_BYTES = 512
KEY_MAX_BYTES = 128
WEIGHT_MAX = 1_000_000
BATCH_MAX_HITS = 10_000
"""Maximum number of hits in one entry, and therefore in one request."""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
ACCEPT_BACK_MS = 3 * DAY_MS
"""Maximum age of a hit. It is the longest window: an older hit would never be counted."""
ACCEPT_AHEAD_MS = 5 * MINUTE_MS
"""How far in the future a hit may be, for clients whose clock is slightly fast."""

DOT_SEGMENTS = (".", "..")
"""Ids that are not allowed. URL libraries resolve them before they send a request, even percent-encoded (RFC 3986,
5.2.4; WHATWG URL), so their counts could not be read."""

FIELDS = frozenset({"id", "timestamp", "weight", "key"})

_UTF8_MAX_BYTES_PER_CHARACTER = 4
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1)


class Hit(NamedTuple):
    """One accepted hit. A tuple, because it is created on the hot path."""

    id: str
    timestamp_ms: int
    weight: int = 1
    key: str = ""
    """The idempotency key. A hit without one (empty) counts each time it is sent."""


def read_hit(fields: object, received_ms: int, header_key: str | None = None) -> Hit:
    """Check a decoded JSON value against the rules and return the hit.

    Args:
        fields: the decoded JSON. A hit is an object with an ``id`` and the optional fields in FIELDS.
        received_ms: when it arrived. This is the hit's time unless it has another.
        header_key: the value of the ``Idempotency-Key`` header, if there was one.

    Raises:
        InvalidHit: it breaks a rule. The error has the field and the limit.
    """
    if not isinstance(fields, dict):
        raise InvalidHit("", "a hit is a JSON object with an id")
    id_ = _read_id(fields)
    if len(fields) == 1 and header_key is None:
        return Hit(id_, received_ms)
    for name in fields:
        if name not in FIELDS:
            raise InvalidHit(name[:64], f"unknown field; a hit has {', '.join(sorted(FIELDS))}")
    weight = _read_weight(fields.get("weight", 1))
    timestamp_ms = _read_timestamp(fields["timestamp"]) if "timestamp" in fields else None
    key = _read_key(fields, header_key)
    if key is not None:
        timestamp_ms = _time_of_key(key, timestamp_ms)
    if timestamp_ms is None:
        return Hit(id_, received_ms, weight)
    _check_window(timestamp_ms, received_ms, "timestamp" if "timestamp" in fields else "key")
    return Hit(id_, timestamp_ms, weight, key or "")


def parse_timestamp(text: str) -> int:
    """Return the milliseconds of an RFC 3339 time with an offset, truncated (not rounded) to the millisecond.

    A leap second (RFC 3339, 5.7) does not exist in Unix time. It becomes the last millisecond of its day, so that the
    hit stays in its day, hour and minute.

    Raises:
        ValueError: it is not RFC 3339, or the day or time does not exist.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time with an offset, such as 2026-11-23T08:15:30.250Z")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    is_leap_second = second == "60"
    if is_leap_second:
        second, fraction = "59", "999"
    since_epoch = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second)) - _EPOCH
    milliseconds = since_epoch.days * DAY_MS + since_epoch.seconds * 1000 + int((fraction or "0").ljust(3, "0")[:3])
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise ValueError("its offset is not a time of day")
        offset_ms = int(offset_hours) * HOUR_MS + int(offset_minutes) * MINUTE_MS
        milliseconds += -offset_ms if sign == "+" else offset_ms
    if is_leap_second and milliseconds % DAY_MS != DAY_MS - 1:
        raise ValueError("there are leap seconds only at 23:59:60 UTC")
    return milliseconds


def uuid7_time_ms(key: str) -> int | None:
    """Return the time in a UUIDv7 in its canonical form (RFC 9562, 5.7); None for any other key."""
    return int(key[:8] + key[9:13], 16) if _UUID7.fullmatch(key) else None


def is_longer_than(text: str, max_bytes: int) -> bool:
    """Return whether the text takes more than max_bytes in UTF-8. It is encoded only if its length does not decide."""
    if len(text) * _UTF8_MAX_BYTES_PER_CHARACTER <= max_bytes:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > max_bytes


def has_utf8_form(text: str) -> bool:
    """Return whether the text can be encoded: half of a surrogate pair would make its whole batch fail."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_id(id_: object) -> str:
    """Return the id if it is valid.

    Raises:
        InvalidHit: it is not a string, empty, too long, or cannot be encoded as UTF-8.
    """
    if not isinstance(id_, str):
        raise InvalidHit("id", "the id must be a string")
    if not id_:
        raise InvalidHit("id", "the id must not be empty")
    if is_longer_than(id_, ID_MAX_BYTES):
        raise InvalidHit("id", f"the id takes more than {ID_MAX_BYTES} bytes of UTF-8", ID_MAX_BYTES)
    if not has_utf8_form(id_):
        raise InvalidHit("id", "the id has no UTF-8 form: it holds half of a surrogate pair")
    return id_


def _read_id(fields: dict[str, object]) -> str:
    try:
        id_ = check_id(fields["id"])
    except KeyError:
        raise InvalidHit("id", "the id is missing") from None
    if id_ in DOT_SEGMENTS:
        raise InvalidHit("id", 'the id must not be "." or "..": no URL can carry it, so its counts could not be read')
    return id_


def _read_weight(value: object) -> int:
    if type(value) is not int:  # bool is an int to Python, not to JSON
        raise InvalidHit("weight", "the weight must be a whole number")
    if not 1 <= value <= WEIGHT_MAX:
        raise InvalidHit("weight", f"the weight must be from 1 to {WEIGHT_MAX:,}", WEIGHT_MAX)
    return value


def _read_timestamp(value: object) -> int:
    if not isinstance(value, str):
        raise InvalidHit("timestamp", "the timestamp must be a string in RFC 3339 form")
    try:
        return parse_timestamp(value)
    except ValueError as error:
        raise InvalidHit("timestamp", f"the timestamp is no time: {error}") from error


def _read_key(fields: dict[str, object], header_key: str | None) -> str | None:
    key = fields.get("key", header_key)
    if "key" not in fields and header_key is None:
        return None
    if not isinstance(key, str) or not key:
        raise InvalidHit("key", "the key must be a string that is not empty")
    if is_longer_than(key, KEY_MAX_BYTES):
        raise InvalidHit("key", f"the key takes more than {KEY_MAX_BYTES} bytes of UTF-8", KEY_MAX_BYTES)
    if not has_utf8_form(key):
        raise InvalidHit("key", "the key has no UTF-8 form: it holds half of a surrogate pair")
    if header_key is not None and key != header_key:
        raise InvalidHit("key", "the key differs from the Idempotency-Key header")
    return key


def _time_of_key(key: str, timestamp_ms: int | None) -> int:
    """Return the time of the key. It is required, because a retry must reach the same index as the first request."""
    own_ms = uuid7_time_ms(key)
    if own_ms is None:
        if timestamp_ms is None:
            raise InvalidHit("key", "a key that is not a UUIDv7 needs a timestamp, which a retry must repeat")
        return timestamp_ms
    if timestamp_ms is not None and timestamp_ms != own_ms:
        raise InvalidHit("timestamp", "the timestamp contradicts the time inside the key, a UUIDv7")
    return own_ms


def _check_window(timestamp_ms: int, received_ms: int, field: str) -> None:
    if timestamp_ms < received_ms - ACCEPT_BACK_MS:
        raise InvalidHit(field, "the hit is older than 3 days", "3 days back")
    if timestamp_ms > received_ms + ACCEPT_AHEAD_MS:
        raise InvalidHit(field, "the hit is more than 5 minutes ahead of this server's clock", "5 minutes ahead")
