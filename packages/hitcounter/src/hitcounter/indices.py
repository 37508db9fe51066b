"""The index of a hit, its document id, the definition of an index, and retention. Pure.

The index follows from the time of the hit, and the document id from its batch or idempotency key. Neither depends on
when or how often a document is written, so a retry finds the document of the first attempt. This makes counting
effectively exactly-once without any lookup.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

from hitcounter.hits import BATCH_MAX_HITS, DAY_MS, HOUR_MS
from hitcounter.settings import IndexSettings

MAPPING_VERSION: Final = 2
"""Increase it when the mapping or the settings of new indices change. An older version never overwrites a newer one."""
OWNER: Final = "hitcounter"
"""The owner in the _meta of all our indices and templates. An index without it is never deleted."""

MAPPING: Final[Mapping[str, object]] = {
    "dynamic": "strict",
    "_meta": {"owner": OWNER, "version": MAPPING_VERSION},
    "_source": {"enabled": False},
    "properties": {
        "id": {"type": "keyword"},
        "timestamp": {"type": "date", "format": "epoch_millis"},
        "n": {"type": "long", "index": False},
    },
}


@lru_cache(maxsize=64)
def _day_name(prefix: str, day: int) -> str:
    return f"{prefix}-{datetime.fromtimestamp(day * 86_400, UTC):%Y.%m.%d}"


def index_of(prefix: str, time_ms: int) -> str:
    """Return the index of a hit, which is that of the UTC day of its time."""
    return _day_name(prefix, time_ms // DAY_MS)


def write_alias(index: str) -> str:
    """Return the alias through which the documents of a day are written.

    Bulks use `require_alias`, and the alias exists only if hitcounter created the index. So an Elasticsearch that lost
    the index refuses the documents, and does not create an index with a guessed mapping (decision 4).
    """
    return f"{index}-write"


def indices_of_windows(prefix: str, now_ms: int, window_ms: int) -> list[str]:
    """Return the indices of all days within [now - window, now), oldest first."""
    first, last = (now_ms - window_ms) // DAY_MS, (now_ms - 1) // DAY_MS
    return [_day_name(prefix, day) for day in range(first, last + 1)]


def indices_to_prepare(prefix: str, now_ms: int) -> list[str]:
    """Return the indices that should exist: today's, and tomorrow's, which is created a day early."""
    today = now_ms // DAY_MS
    return [_day_name(prefix, today), _day_name(prefix, today + 1)]


# ── documents ───────────────────────────────────────────────────────────────────────────────────────────────────────
# The length of each part of a document id is a multiple of three bytes. So the base64 texts of the parts can be joined,
# and Elasticsearch stores the id as bytes and not as text.

_POSITIONS: Final = tuple(urlsafe_b64encode(position.to_bytes(3)).decode() for position in range(BATCH_MAX_HITS))


def document_id_prefix(producer: bytes, sequence: int) -> str:
    """Return the first 24 characters of all document ids of a batch."""
    return urlsafe_b64encode(producer + sequence.to_bytes(6)).decode()


def document_id(prefix: str, position: int) -> str:
    """Return the id of the document at a position of a batch: 28 characters."""
    return prefix + _POSITIONS[position]


def keyed_document_id(id_: str, key: str, time_ms: int) -> str:
    """Return the document id of a hit with an idempotency key: 32 characters, so it differs from all ids without a key.

    The time of the hit is part of its identity: the time in the key (a UUIDv7), or the timestamp sent with it. The time
    selects the index, and Elasticsearch deduplicates only within an index (decision 3).
    """
    parts = (id_.encode(), key.encode())
    text = b"".join(len(part).to_bytes(2) + part for part in parts) + time_ms.to_bytes(8)
    return urlsafe_b64encode(hashlib.blake2b(text, digest_size=24).digest()).decode()


# ── making indices ──────────────────────────────────────────────────────────────────────────────────────────────────


DURABLE_SETTINGS: Final[Mapping[str, str]] = {"index.translog.durability": "request"}
"""Elasticsearch syncs each bulk before it responds, because entries are settled after the response. This is the
default; it is set explicitly so that another template cannot change it (decision 32)."""


def build_settings(settings: IndexSettings) -> dict[str, object]:
    """Return the settings of a day's index."""
    return {
        "number_of_shards": settings.shards,
        "number_of_replicas": settings.replicas,
        # Set explicitly, because by default shards that are rarely searched stop refreshing. It is long, because the
        # publisher of the as-of refreshes twice a second; more refreshes cost Elasticsearch a fifth more CPU
        # (decision 13).
        "refresh_interval": "30s",
        "sort.field": ["id", "timestamp"],  # the hits of one id are stored together, the newest first
        "sort.order": ["asc", "desc"],
        **{name.removeprefix("index."): value for name, value in DURABLE_SETTINGS.items()},
        "default_pipeline": "_none",  # another template must not send our documents through a pipeline, which could
        "final_pipeline": "_none",  # drop them and still report success
    }


def build_index(prefix: str, index: str, settings: IndexSettings) -> dict[str, object]:
    """Return the body that creates the index of a day. It is complete: it does not need the index template."""
    return {
        "settings": {"index": build_settings(settings)},
        "mappings": MAPPING,
        "aliases": {prefix: {}, write_alias(index): {}},
    }


_TEMPLATE_PRIORITY: Final = 200
"""A longer prefix has a higher priority: the pattern of `hits` also matches the indices of `hits-eu`, and Elasticsearch
refuses templates with overlapping patterns and equal priority."""


def template_name(prefix: str) -> str:
    """Return the name of the index template; `hitcounter-hits` by default."""
    return f"{OWNER}-{prefix}"


def build_template(prefix: str, settings: IndexSettings) -> dict[str, object]:
    """Return the index template. It is only a safeguard, in case someone else creates the index of a day."""
    return {
        "index_patterns": [f"{prefix}-*.*.*"],
        "priority": _TEMPLATE_PRIORITY + len(prefix),
        "version": MAPPING_VERSION,
        "_meta": {"owner": OWNER, "settings": build_settings(settings)},
        "template": {
            "settings": {"index": build_settings(settings)},
            "mappings": MAPPING,
            "aliases": {prefix: {}},
        },
    }


def find_mapping_fault(mapping: Mapping[str, object]) -> str | None:
    """Return why an existing index cannot be used; None if hits may be written to it.

    A missing field is not a fault: an older version created the index, and `find_missing_fields` returns what to add.
    """
    if not _is_ours(mapping):
        return "it was not made by hitcounter"
    if mapping.get("_source") != MAPPING["_source"] or mapping.get("dynamic") != MAPPING["dynamic"]:
        return "its mapping is not strict, or keeps _source"
    fields, wanted = mapping.get("properties"), MAPPING["properties"]
    if not isinstance(fields, dict) or not isinstance(wanted, dict):
        return "it has no fields"
    wrong = [name for name, field in wanted.items() if name in fields and fields[name] != field]
    if wrong:
        return f"its mapping of {', '.join(wrong)} differs"
    lacking = wanted.keys() - fields.keys()
    if lacking and version_of(mapping) > MAPPING_VERSION:
        return f"a newer version made it, without {', '.join(sorted(lacking))}"
    return None


def find_missing_fields(mapping: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return the missing fields of an index without a fault, with their mapping."""
    fields, wanted = mapping.get("properties"), MAPPING["properties"]
    if not isinstance(fields, dict) or not isinstance(wanted, dict):
        return {}
    return {name: field for name, field in wanted.items() if name not in fields}


def find_newer_meta(mapping: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the new _meta if the existing one is of an older version; None if it stays."""
    meta = MAPPING["_meta"]
    return meta if isinstance(meta, Mapping) and version_of(mapping) < MAPPING_VERSION else None


def version_of(mapping: Mapping[str, object]) -> int:
    """Return the version in the mapping; 0 if it has none."""
    meta = mapping.get("_meta")
    version = meta.get("version") if isinstance(meta, Mapping) else None
    return version if isinstance(version, int) else 0


def is_durable(settings: Mapping[str, object]) -> bool:
    """Return whether an index syncs each bulk before the response.

    Args:
        settings: its settings with flat names. A setting that is missing has its default.
    """
    return all(settings.get(name, value) == value for name, value in DURABLE_SETTINGS.items())


def find_missing_aliases(prefix: str, index: str, aliases: Collection[str]) -> list[str]:
    """Return the aliases that the index of a day should have and does not have."""
    return sorted({prefix, write_alias(index)} - set(aliases))


def find_write_block(settings: Mapping[str, object]) -> str | None:
    """Return the settings that prevent writes to an otherwise usable index; None if there are none.

    Args:
        settings: its settings with flat names, such as index.blocks.write.
    """
    blocks = [name for name in settings if name.startswith("index.blocks.") and str(settings[name]).lower() == "true"]
    pipelines = [name for name in _PIPELINES if settings.get(name, "_none") != "_none"]
    return " and ".join(f"{name} is {settings[name]}" for name in sorted(blocks) + pipelines) or None


_PIPELINES: Final = ("index.default_pipeline", "index.final_pipeline")


# ── comparing templates ─────────────────────────────────────────────────────────────────────────────────────────────


class TemplateState(StrEnum):
    """How the existing template compares to ours."""

    SAME = "same"
    MISSING = "missing"
    OLDER = "older"
    NEWER = "newer"
    """A newer version of hitcounter wrote it; it is not changed."""
    CHANGED = "changed"
    """It has our version but differs: someone changed it, or the settings from which it is built."""
    REFUSED = "refused"
    """Elasticsearch refuses ours. Hits are still counted, because indices are complete without a template."""


@dataclass(frozen=True, slots=True)
class TemplateCheck:
    """The result of a check of the index template."""

    state: TemplateState
    differences: list[str]
    """The paths that differ, such as template.settings.index.number_of_shards."""
    refusal: str = ""
    """Why Elasticsearch refused our template."""


def compare_template(found: Mapping[str, object] | None, wanted: Mapping[str, object]) -> TemplateCheck:
    """Compare the existing template (None if there is none) with ours."""
    if found is None:
        return TemplateCheck(TemplateState.MISSING, [])
    there, ours = _flatten(found), _flatten(wanted)
    differences = sorted(path for path in there.keys() | ours.keys() if there.get(path) != ours.get(path))
    version = found.get("version")
    version = version if isinstance(version, int) else 0
    if version > MAPPING_VERSION:
        return TemplateCheck(TemplateState.NEWER, differences)
    if not differences:
        return TemplateCheck(TemplateState.SAME, [])
    return TemplateCheck(TemplateState.OLDER if 0 < version < MAPPING_VERSION else TemplateState.CHANGED, differences)


_ADDED_BY_ELASTICSEARCH: Final = ("created_date_millis", "modified_date_millis")
"""Elasticsearch 9 adds these by itself, so they do not count as differences."""


def _flatten(value: object, path: str = "") -> dict[str, str]:
    """Return the leaf values by path, without the empty lists that Elasticsearch adds.

    Elasticsearch returns settings nested and as text, no matter how they were written.
    """
    if path in _ADDED_BY_ELASTICSEARCH or value == []:
        return {}
    if isinstance(value, Mapping) and value:
        children = (_flatten(child, f"{path}.{name}" if path else str(name)) for name, child in value.items())
        return {path: leaf for child in children for path, leaf in child.items()}
    if isinstance(value, list | tuple):
        return {path: ",".join(map(str, value))}
    return {path: str(value).lower() if isinstance(value, bool) else str(value)}


# ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────────


def day_of(prefix: str, index: str) -> datetime | None:
    """Return the UTC day of one of our index names; None for any other name."""
    match = re.fullmatch(rf"{re.escape(prefix)}-(\d{{4}})\.(\d\d)\.(\d\d)", index, re.ASCII)
    if match is None:
        return None
    year, month, day = map(int, match.groups())
    try:
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None


CLOCK_TOLERANCE_MS: Final = 60_000
"""If two clocks differ by more than this, one of them is wrong."""
_GRACE_MS: Final = HOUR_MS
"""An index is deleted this long after it has expired: an API whose clock is behind may still read it."""


def find_clock_fault(own_name: str, own_ms: float, others_ms: Mapping[str, float]) -> str | None:
    """Return why a clock must not be used to delete indices; None if it agrees with the others.

    Args:
        own_name: the name of the clock, for the message.
        own_ms: its time.
        others_ms: the times of the clocks of other machines, by name.
    """
    if not others_ms:
        return "no other clock is known to compare with"
    for name, other_ms in others_ms.items():
        apart_ms = own_ms - other_ms
        if abs(apart_ms) > CLOCK_TOLERANCE_MS:
            direction = "ahead of" if apart_ms > 0 else "behind"
            return f"the clock of {own_name} is {abs(apart_ms) / 1000:.0f} s {direction} that of {name}"
    return None


def elasticsearch_day_name(prefix: str) -> str:
    """Return a date math name, which Elasticsearch resolves by its own clock to the index of an hour ago."""
    return f"<{prefix}-{{now-{_GRACE_MS // 60_000}m/d{{yyyy.MM.dd}}}}>"


def earliest_ms(prefix: str, index: str) -> int | None:
    """Return the earliest time at which that name resolves to this index; None if it is not the index of a day."""
    day = day_of(prefix, index)
    return None if day is None else int(day.timestamp() * 1000) + _GRACE_MS


def expired_indices(
    mappings: Mapping[str, Mapping[str, object]], prefix: str, now_ms: int, retention_days: int
) -> list[str]:
    """Return the expired indices, which retention may delete, oldest first.

    Args:
        mappings: the mapping of each existing index.
        prefix: the index prefix of this installation.
        now_ms: the current time.
        retention_days: days to keep, today included; at least 4. A new day counts only after its first hour, so the
            oldest index is kept for one hour more.
    """
    keep = max(retention_days, 4)
    grace_begun = datetime.fromtimestamp((now_ms - _GRACE_MS) // 1000, UTC)
    today = grace_begun.replace(hour=0, minute=0, second=0, microsecond=0)
    oldest_kept = today - timedelta(days=keep - 1)
    days = ((day_of(prefix, index), index) for index, mapping in mappings.items() if _is_ours(mapping))
    return [index for day, index in sorted((day, index) for day, index in days if day is not None) if day < oldest_kept]


def _is_ours(mapping: Mapping[str, object]) -> bool:
    meta = mapping.get("_meta")
    return isinstance(meta, Mapping) and meta.get("owner") == OWNER
