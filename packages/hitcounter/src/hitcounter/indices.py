"""Which index a hit belongs to, what its document is called, how an index is made, and when it goes. Pure.

The index comes from the hit's own time and the document id from the hit's own batch or key: neither depends on when
or how often we write, so a retry meets the document of the first try. That is what makes counting exactly once
possible without looking anything up.
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
"""Raised when the mapping or the settings of new indices change; never written over by an older one."""
OWNER: Final = "hitcounter"
"""Stands in the _meta of every index and template of ours: nothing without it is ever dropped."""

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
    """Return the index of a hit: the UTC day of the hit's own time."""
    return _day_name(prefix, time_ms // DAY_MS)


def write_alias(index: str) -> str:
    """Return the name a day's documents are written through.

    Bulks ask for an alias (`require_alias`), and only our explicit creation makes one: so an Elasticsearch that lost
    the index refuses the documents, where it would otherwise invent an index with a mapping of its own.
    """
    return f"{index}-write"


def indices_of_windows(prefix: str, now_ms: int, window_ms: int) -> list[str]:
    """Return the indices of all days that [now - window, now) touches, oldest first."""
    first, last = (now_ms - window_ms) // DAY_MS, (now_ms - 1) // DAY_MS
    return [_day_name(prefix, day) for day in range(first, last + 1)]


def indices_to_prepare(prefix: str, now_ms: int) -> list[str]:
    """Return the indices to have at hand: today's and, since it is made a day early, tomorrow's."""
    today = now_ms // DAY_MS
    return [_day_name(prefix, today), _day_name(prefix, today + 1)]


# ── documents ───────────────────────────────────────────────────────────────────────────────────────────────────────
# All parts of a document id have a length that is a multiple of three bytes, so that its base64 pieces can be joined,
# and Elasticsearch stores the id as those bytes instead of the text.

_POSITIONS: Final = tuple(urlsafe_b64encode(position.to_bytes(3)).decode() for position in range(BATCH_MAX_HITS))


def document_id_prefix(producer: bytes, sequence: int) -> str:
    """Return the 24 characters that all document ids of a batch begin with."""
    return urlsafe_b64encode(producer + sequence.to_bytes(6)).decode()


def document_id(prefix: str, position: int) -> str:
    """Return the id of the document at a position of a batch: 28 characters."""
    return prefix + _POSITIONS[position]


def keyed_document_id(id_: str, key: str, time_ms: int) -> str:
    """Return the id of the document of a hit with an idempotency key: 32 characters, so never one of the other kind.

    The hit's time belongs to its identity: the key's own (a UUIDv7), or the timestamp that came with it.
    """
    parts = (id_.encode(), key.encode())
    text = b"".join(len(part).to_bytes(2) + part for part in parts) + time_ms.to_bytes(8)
    return urlsafe_b64encode(hashlib.blake2b(text, digest_size=24).digest()).decode()


# ── making indices ──────────────────────────────────────────────────────────────────────────────────────────────────


DURABLE_SETTINGS: Final[Mapping[str, str]] = {"index.translog.durability": "request"}
"""Each bulk is synced before its answer, by which entries are settled. The default, said all the same, so that nobody
else's template takes it away."""


def build_settings(settings: IndexSettings) -> dict[str, object]:
    """Return the settings of a day's index."""
    return {
        "number_of_shards": settings.shards,
        "number_of_replicas": settings.replicas,
        # Explicit: when unset, shards that are seldom searched stop refreshing. Long: whoever publishes the as-of
        # refreshes twice a second anyway, and a second clock beside that costs Elasticsearch a fifth more.
        "refresh_interval": "30s",
        "sort.field": ["id", "timestamp"],  # one id's hits stand together, the newest first
        "sort.order": ["asc", "desc"],
        **{name.removeprefix("index."): value for name, value in DURABLE_SETTINGS.items()},
        "default_pipeline": "_none",  # nobody else's template may send our documents through a pipeline, which might
        "final_pipeline": "_none",  # drop them and answer that all went well
    }


def build_index(prefix: str, index: str, settings: IndexSettings) -> dict[str, object]:
    """Return the body that creates a day's index, complete in itself: no template is needed for it to be right."""
    return {
        "settings": {"index": build_settings(settings)},
        "mappings": MAPPING,
        "aliases": {prefix: {}, write_alias(index): {}},
    }


_TEMPLATE_PRIORITY: Final = 200
"""The longer prefix goes first: the pattern of `hits` fits the indices of `hits-eu` too, and Elasticsearch refuses
a template whose pattern overlaps another of the same priority."""


def template_name(prefix: str) -> str:
    """Return the name of the index template; `hitcounter-hits` by default."""
    return f"{OWNER}-{prefix}"


def build_template(prefix: str, settings: IndexSettings) -> dict[str, object]:
    """Return the index template: a second net, should anyone else create a day's index."""
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
    """Tell what keeps an existing index from being ours; None if hits may be written into it.

    A field that it merely lacks is no fault: an older version made it, and `find_missing_fields` tells what to add.
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
    """Return the fields to add to an index that has no fault: those that it lacks, as they should be."""
    fields, wanted = mapping.get("properties"), MAPPING["properties"]
    if not isinstance(fields, dict) or not isinstance(wanted, dict):
        return {}
    return {name: field for name, field in wanted.items() if name not in fields}


def find_newer_meta(mapping: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the marker to write over that of an older version; None where the one that is there stays."""
    meta = MAPPING["_meta"]
    return meta if isinstance(meta, Mapping) and version_of(mapping) < MAPPING_VERSION else None


def version_of(mapping: Mapping[str, object]) -> int:
    """Return the version of the mapping, as its maker wrote it; 0 where that is not to be seen."""
    meta = mapping.get("_meta")
    version = meta.get("version") if isinstance(meta, Mapping) else None
    return version if isinstance(version, int) else 0


def is_durable(settings: Mapping[str, object]) -> bool:
    """Tell whether an index syncs each bulk before it answers.

    Args:
        settings: those of the index, as flat names; what is not among them is the default.
    """
    return all(settings.get(name, value) == value for name, value in DURABLE_SETTINGS.items())


def find_missing_aliases(prefix: str, index: str, aliases: Collection[str]) -> list[str]:
    """Return the aliases that a day's index should have and has not."""
    return sorted({prefix, write_alias(index)} - set(aliases))


def find_obstacle(settings: Mapping[str, object]) -> str | None:
    """Tell what keeps hits out of an index that is otherwise fit for them; None if nothing does.

    Args:
        settings: those of the index, as flat names such as index.blocks.write.
    """
    blocks = [name for name in settings if name.startswith("index.blocks.") and str(settings[name]).lower() == "true"]
    pipelines = [name for name in _PIPELINES if settings.get(name, "_none") != "_none"]
    return " and ".join(f"{name} is {settings[name]}" for name in sorted(blocks) + pipelines) or None


_PIPELINES: Final = ("index.default_pipeline", "index.final_pipeline")


# ── comparing templates ─────────────────────────────────────────────────────────────────────────────────────────────


class TemplateState(StrEnum):
    """How the template that is there stands to the one that we would put."""

    SAME = "same"
    MISSING = "missing"
    OLDER = "older"
    NEWER = "newer"
    """Put by a newer version of ours, which knows better: left alone."""
    CHANGED = "changed"
    """Of our version, and yet not what we put: somebody changed it, or the settings that it follows."""
    REFUSED = "refused"
    """Elasticsearch does not take ours. Hits are counted all the same: indices are complete without a template."""


@dataclass(frozen=True, slots=True)
class TemplateLook:
    """What a look at the index template found."""

    state: TemplateState
    differences: list[str]
    """The paths that differ, such as template.settings.index.number_of_shards."""
    refusal: str = ""
    """Why Elasticsearch did not take ours."""


def compare_template(found: Mapping[str, object] | None, wanted: Mapping[str, object]) -> TemplateLook:
    """Compare the template that is there, None for none, with the one that we would put."""
    if found is None:
        return TemplateLook(TemplateState.MISSING, [])
    there, ours = _flatten(found), _flatten(wanted)
    differences = sorted(path for path in there.keys() | ours.keys() if there.get(path) != ours.get(path))
    version = found.get("version")
    version = version if isinstance(version, int) else 0
    if version > MAPPING_VERSION:
        return TemplateLook(TemplateState.NEWER, differences)
    if not differences:
        return TemplateLook(TemplateState.SAME, [])
    return TemplateLook(TemplateState.OLDER if 0 < version < MAPPING_VERSION else TemplateState.CHANGED, differences)


_ADDED_BY_ELASTICSEARCH: Final = ("created_date_millis", "modified_date_millis")
"""From version 9 on, and by itself: no difference to what was put."""


def _flatten(value: object, path: str = "") -> dict[str, str]:
    """Return the leaves by their paths, without empty lists, which Elasticsearch adds.

    It also answers settings nested and as text, however they were put.
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
    """Return the UTC day of one of our index names, None for any other name."""
    match = re.fullmatch(rf"{re.escape(prefix)}-(\d{{4}})\.(\d\d)\.(\d\d)", index, re.ASCII)
    if match is None:
        return None
    year, month, day = map(int, match.groups())
    try:
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None


CLOCK_TOLERANCE_MS: Final = 60_000
"""Clocks that are further apart are not both right."""
_GRACE_MS: Final = HOUR_MS
"""A day is dropped when its time has been over for this long: an API whose clock is behind may still ask for it."""


def doubt_clock(own_name: str, own_ms: float, others_ms: Mapping[str, float]) -> str | None:
    """Tell why no index may be dropped at what a clock shows; None if it agrees with others.

    Args:
        own_name: whose clock it is, as text for people.
        own_ms: what it shows.
        others_ms: the clocks of other machines, by whose they are.
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
    """Return the name that Elasticsearch resolves, by its own clock, to the index of what was now before the grace."""
    return f"<{prefix}-{{now-{_GRACE_MS // 60_000}m/d{{yyyy.MM.dd}}}}>"


def earliest_ms(prefix: str, index: str) -> int | None:
    """Return the earliest time at which that name resolves to this index; None where it is no name of a day."""
    day = day_of(prefix, index)
    return None if day is None else int(day.timestamp() * 1000) + _GRACE_MS


def expired_indices(
    mappings: Mapping[str, Mapping[str, object]], prefix: str, now_ms: int, retention_days: int
) -> list[str]:
    """Return the indices that retention may drop, oldest first.

    Args:
        mappings: the mapping of each index that exists.
        prefix: the index prefix of this installation.
        now_ms: the present.
        retention_days: whole days to keep, today included; fewer than 4 is taken as 4. A day counts as begun when an
            hour of it is over, so that the oldest one stays for that hour.
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
