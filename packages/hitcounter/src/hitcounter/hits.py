"""A hit: something identified by an id was hit at a time, with a weight. Its rules and its limits.

This module decides what a client may send; it knows neither HTTP nor Redis nor Elasticsearch. Times are integer
milliseconds since the Unix epoch, UTC: the finest step that the windows, the contract and the indices all keep.
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
"""The most hits one entry may hold, and so the most that one request may bring."""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
ACCEPT_BACK_MS = 3 * DAY_MS
"""How old a hit may be: the longest window that is answered, so no older hit could ever be counted."""
ACCEPT_AHEAD_MS = 5 * MINUTE_MS
"""How far ahead a hit may be: covers clients whose clock is a little fast."""

DOT_SEGMENTS = (".", "..")
"""No hit may have one of these as its id: every URL library resolves them before it sends a request, percent-encoded
or not (RFC 3986, 5.2.4; WHATWG URL), so that the counts could not be read."""

FIELDS = frozenset({"id", "timestamp", "weight", "key"})

_UTF8_MAX_BYTES_PER_CHARACTER = 4
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1)


class Hit(NamedTuple):
    """One accepted hit. A tuple, since making one stands on the hot path."""

    id: str
    timestamp_ms: int
    weight: int = 1
    key: str = ""
    """The idempotency key; empty for a hit that counts each time it is sent."""


def read_hit(fields: object, received_ms: int, header_key: str | None = None) -> Hit:
    """Check a decoded JSON value against the rules and return the hit it stands for.

    Args:
        fields: the decoded JSON; only an object with an ``id`` and the optional fields of FIELDS is a hit.
        received_ms: when it arrived; the hit's time unless it carries another.
        header_key: the value of the ``Idempotency-Key`` header, if there was one.

    Raises:
        InvalidHit: names the field and the limit.
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
    """Return the milliseconds of an RFC 3339 time with an offset, cut (not rounded) to the millisecond.

    A leap second (RFC 3339, 5.7) does not exist in Unix time: it is the last millisecond of its day, so that the hit
    stays in the day, hour and minute that its time names.

    Raises:
        ValueError: it is not RFC 3339, or no such day or time exists.
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
    """Return the time inside a UUIDv7 in its usual form (RFC 9562), or None for any other key."""
    return int(key[:8] + key[9:13], 16) if _UUID7.fullmatch(key) else None


def is_longer_than(text: str, max_bytes: int) -> bool:
    """Tell whether the text takes more than max_bytes of UTF-8, encoding it only where its length leaves a doubt."""
    if len(text) * _UTF8_MAX_BYTES_PER_CHARACTER <= max_bytes:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > max_bytes


def has_utf8_form(text: str) -> bool:
    """Tell whether the text can be stored at all: one half of a surrogate pair would spoil the batch it is put in."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_id(id_: object) -> str:
    """Return the id if it is one.

    Raises:
        InvalidHit: it is no string, empty, too long, or has no UTF-8 form.
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
    """Return the time that goes with the key: a retry must find the index of the first try, so there has to be one."""
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
