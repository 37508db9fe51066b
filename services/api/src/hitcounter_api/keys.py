"""API keys: what the keys file says, and which key a token belongs to. Pure: no file, no HTTP.

The file has the SHA-256 of each token, never a token. A token is looked up by its digest, so the time of a look-up says
nothing about the tokens (docs/decisions/0041).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from hitcounter.errors import PermanentError
from hitcounter.hits import ID_MAX_BYTES
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

FILE_MAX_BYTES: Final = 8 * 1024 * 1024
KEYS_MAX: Final = 20_000
_DEPTH_MAX: Final = 8
"""The parser of libyaml would use up the stack for a file that is nested deeply."""
_FAULTS_SHOWN: Final = 10
_EMPTY: Final = hashlib.sha256(b"").hexdigest()

_Text = Annotated[str, Field(strict=True)]


class InvalidKeys(PermanentError):
    """The keys file is not valid. The text names the entries and rules, and contains no value of the file."""


class Scope(StrEnum):
    """What a key may do."""

    TRACK = "track"
    READ = "read"
    ADMIN = "admin"


class KeyEntry(BaseModel):
    """One entry of the keys file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[_Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    sha256: Annotated[_Text, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    anonymous: StrictBool = False
    scopes: list[Scope] = Field(min_length=1)
    prefixes: list[Annotated[_Text, Field(min_length=1, max_length=ID_MAX_BYTES)]] = []
    namespace: Any = ""
    origins: Any = ()
    rate: Any = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.sha256 is None) != self.anonymous:
            raise _fault("must have either sha256 or `anonymous: true`")
        if self.sha256 is not None and self.sha256.lower() == _EMPTY:
            raise _fault("sha256 is that of an empty token")
        for field in ("namespace", "origins", "rate"):
            if getattr(self, field):
                raise _fault(f"{field} is not supported yet; remove it")
        return self


def _fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("key", "{message}", {"message": message})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and what it may do."""

    name: str
    scopes: frozenset[Scope]
    prefixes: tuple[str, ...] = ()
    """The ids that it may use begin with one of these. Empty: all ids."""

    def may_use(self, id_: str) -> bool:
        """Return whether it may use the id. Ids are compared as they are: they are never normalized."""
        return not self.prefixes or id_.startswith(self.prefixes)


class KeySet:
    """The keys of one version of the file."""

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self.anonymous: Caller | None = None
        self._by_digest: dict[bytes, Caller] = {}
        for entry in entries:  # none is kept: a garbage collection would scan seven objects for each
            caller = Caller(entry.name, frozenset(entry.scopes), tuple(entry.prefixes))
            if entry.sha256 is None:
                self.anonymous = caller
            else:
                self._by_digest[bytes.fromhex(entry.sha256)] = caller
        self.remembered: dict[bytes | None, Caller] = {}
        """Callers by the valid Authorization headers that were sent, so that the next request with one needs no digest.
        """

    def __len__(self) -> int:
        return len(self._by_digest) + (self.anonymous is not None)

    def find(self, token: bytes) -> Caller | None:
        """Return whose token it is."""
        return self._by_digest.get(hashlib.sha256(token).digest())


def parse_keys(data: bytes) -> KeySet:
    """Return the keys of a file.

    Raises:
        InvalidKeys: lists what is wrong.
    """
    return KeySet(parse_entries(data))


def parse_entries(data: bytes) -> list[KeyEntry]:
    """Return the entries of a file.

    Raises:
        InvalidKeys: lists what is wrong.
    """
    if len(data) > FILE_MAX_BYTES:
        raise InvalidKeys(f"the file has more than {FILE_MAX_BYTES:,} bytes")
    document = _read_yaml(data)
    if not isinstance(document, dict) or list(document) != ["keys"] or not isinstance(document["keys"], list):
        raise InvalidKeys("the file must have one field, `keys`, with a list of keys")
    items = document["keys"]
    if not 0 < len(items) <= KEYS_MAX:
        raise InvalidKeys(f"the file has {len(items):,} keys; it must have 1 to {KEYS_MAX:,}")
    entries, faults = [], []
    for place, item in enumerate(items):
        try:
            entries.append(KeyEntry.model_validate(item))
        except ValidationError as error:
            faults += [f"key {place + 1}: {_describe(fault)}" for fault in error.errors(include_input=False)]
    faults += _find_repeated(entries)
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN:,} more" if len(faults) > _FAULTS_SHOWN else ""
        raise InvalidKeys("; ".join(faults[:_FAULTS_SHOWN]) + more)
    return entries


def _describe(fault: ErrorDetails) -> str:
    field = ".".join(str(part) for part in fault["loc"] if part in KeyEntry.model_fields or isinstance(part, int))
    if fault["type"] == "extra_forbidden":
        return f"unknown field; the fields are {', '.join(KeyEntry.model_fields)}"
    return f"{field}: {fault['msg']}" if field else fault["msg"]


def _find_repeated(entries: list[KeyEntry]) -> list[str]:
    faults = []
    names: set[str] = set()
    digests: set[str | None] = set()
    for entry in entries:
        digest = None if entry.sha256 is None else entry.sha256.lower()
        if entry.name in names:
            faults.append(f"two keys have the name {entry.name}")
        if digest in digests:
            faults.append(f"{entry.name}: another key has the same token, or is anonymous, too")
        names.add(entry.name)
        digests.add(digest)
    return faults


_PLAIN: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None, "~": None, "": None}
"""Words that are not text if they have no quotes. Everything else is text: a name or a digest of digits, too."""


def _read_yaml(data: bytes) -> object:
    """Return the document, which may be JSON.

    YAML's own rules would turn some names and digests into numbers and dates, and take the last of two equal fields. So
    the events of the parser are used, with a limited depth, and without aliases and tags.

    Raises:
        InvalidKeys: it is not YAML, or uses what is not allowed here.
    """
    import yaml  # only if there are keys: it is not needed otherwise

    open_: list[_Node] = [_Node(is_mapping=False)]
    try:
        for event in yaml.parse(data.decode(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            line = 0 if event.start_mark is None else event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise InvalidKeys(f"line {line}: aliases, anchors and tags are not supported")
            if isinstance(event, yaml.ScalarEvent):
                value = event.value
                open_[-1].add(_PLAIN.get(value, value) if event.implicit[0] else value, line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(open_) > _DEPTH_MAX:
                    raise InvalidKeys(f"line {line}: it is nested too deeply")
                open_.append(_Node(is_mapping=isinstance(event, yaml.MappingStartEvent)))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                node = open_.pop()
                open_[-1].add(node.value, line)
    except UnicodeDecodeError as error:
        raise InvalidKeys("the file is not UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", "it has characters that are not allowed")  # str(error) shows the line
        raise InvalidKeys(f"{where}the file is not YAML: {problem}") from None
    documents = open_[0].items
    if len(documents) != 1:
        raise InvalidKeys(f"the file has {len(documents)} documents; it must have one")
    return documents[0]


class _Node:
    """A list or mapping whose items are being read."""

    def __init__(self, *, is_mapping: bool) -> None:
        self._is_mapping = is_mapping
        self.items: list[object] = []
        self._names: set[str] = set()

    @property
    def value(self) -> object:
        return dict(zip(self.items[::2], self.items[1::2], strict=True)) if self._is_mapping else self.items

    def add(self, item: object, line: int) -> None:
        if self._is_mapping and len(self.items) % 2 == 0:
            if not isinstance(item, str) or item in self._names:
                raise InvalidKeys(f"line {line}: the name of a field is not text, or appears twice")
            self._names.add(item)
        self.items.append(item)
