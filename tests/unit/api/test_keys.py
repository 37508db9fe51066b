"""What a keys file may say, and that nothing else is taken."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import itertools
import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from hitcounter.errors import ConfigurationError
from hitcounter.health import Readiness
from hitcounter_api import keys_command
from hitcounter_api.__main__ import main, open_keys_file
from hitcounter_api.access import Access
from hitcounter_api.keys import FILE_MAX_BYTES, KEYS_MAX, Caller, InvalidKeys, KeySet, Scope, parse_entries, parse_keys
from hitcounter_api.keys_file import KEYS, KeysFile
from hitcounter_api.settings import AccessSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.fakes import build_metrics


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def build_file(*tokens: str) -> bytes:
    """Return a file with a key for each token, of the same name."""
    return orjson.dumps({"keys": [{"name": token, "sha256": digest(token), "scopes": ["track"]} for token in tokens]})


YAML = f"""\
# comments are allowed
keys:
  - name: 2026-11-28  # text, although YAML has dates
    sha256: {digest("a")}
    scopes: [track, read]
    prefixes: ["/blog/", /shop/]
    namespace: ""
    origins: []
  - {{name: nobody, anonymous: true, scopes: [track]}}
"""


def test_a_file_is_yaml() -> None:
    keys = parse_keys(YAML.encode())
    assert keys.find(b"a") == Caller("2026-11-28", frozenset({Scope.TRACK, Scope.READ}), ("/blog/", "/shop/"))
    assert keys.anonymous == Caller("nobody", frozenset({Scope.TRACK}))
    assert keys.find(b"b") is None


def test_a_file_may_be_json() -> None:
    assert parse_keys(build_file("a", "b")).find(b"b") == Caller("b", frozenset({Scope.TRACK}))


def test_a_digest_of_digits_is_text() -> None:
    with pytest.raises(InvalidKeys, match="sha256"):
        parse_keys(b"keys: [{name: a, sha256: 123, scopes: [track]}]")
    assert parse_entries(b"keys: [{name: a, sha256: %b, scopes: [track]}]" % (b"1" * 64))


def entry(**fields: object) -> bytes:
    """Return a file with one good key in which these fields are changed; None removes one."""
    fields = {"name": "a", "sha256": digest("a"), "scopes": ["track"], **fields}
    return orjson.dumps({"keys": [{name: value for name, value in fields.items() if value is not None}]})


BAD = {
    "empty": (b"", "must have one|documents"),
    "no keys": (b'{"keys": []}', "0 keys"),
    "keys is no list": (b'{"keys": {}}', "list of keys"),
    "another field": (b'{"keys": [], "more": 1}', "list of keys"),
    "a list": (b"[]", "list of keys"),
    "two documents": (b"keys: []\n---\nkeys: []\n", "2 documents"),
    "not YAML": (b"keys: [", "line .*not YAML"),
    "not UTF-8": (b"\xff", "not UTF-8"),
    "NUL": (b"keys: \0", "not YAML"),
    "no name": (entry(name=None), "key 1: name"),
    "a bad name": (entry(name="a b"), "key 1: name"),
    "a name with a line feed": (entry(name="a\n"), "key 1: name"),
    "no scope": (entry(scopes=[]), "key 1: scopes"),
    "an unknown scope": (entry(scopes=["write"]), "key 1: scopes"),
    "scopes as text": (entry(scopes="track"), "key 1: scopes"),
    "neither sha256 nor anonymous": (entry(sha256=None), "either sha256 or"),
    "both": (entry(anonymous=True), "either sha256 or"),
    "anonymous as text": (entry(sha256=None, anonymous="yes"), "anonymous"),
    "a short digest": (entry(sha256="ab"), "sha256"),
    "the digest of nothing": (entry(sha256=digest("")), "empty token"),
    "a token": (entry(token="hc_secret"), "unknown field"),
    "an empty prefix": (entry(prefixes=[""]), "prefixes"),
    "a namespace": (entry(namespace="shop"), "namespace is not supported yet"),
    "origins": (entry(origins=["https://example.org"]), "origins is not supported yet"),
    "a rate": (entry(rate={"hits_per_second": 5, "burst": 9}), "rate is not supported yet"),
    "two of one name": (build_file("a")[:-2] + b"," + build_file("a")[9:], "two keys have the name a"),
    "an alias": (b"keys: [&a {name: b}, *a]", "aliases"),
    "a tag": (b"keys: !!python/object:os.system []", "tags"),
    "a field twice": (b"keys: [{name: a, name: b}]", "appears twice"),
    "a list as a name": (b"keys: [{[a]: b}]", "not text"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "deep mappings": (b"{a: " * 100_000, "nested too deeply"),
    "too large": (b"#" * (FILE_MAX_BYTES + 1), "more than"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_and_says_why(data: bytes, message: str) -> None:
    with pytest.raises(InvalidKeys, match=message) as caught:
        parse_keys(data)
    assert "hc_secret" not in str(caught.value)


def test_two_keys_with_one_token_are_refused() -> None:
    data = orjson.loads(build_file("a", "b"))
    data["keys"][1]["sha256"] = digest("a").upper()
    with pytest.raises(InvalidKeys, match="b: another key has the same token"):
        parse_keys(orjson.dumps(data))


def test_many_faults_are_cut() -> None:
    with pytest.raises(InvalidKeys, match="and 40 more"):
        parse_keys(
            orjson.dumps({"keys": [{"name": f"a{n}", "sha256": digest(str(n)), "scopes": 1} for n in range(50)]})
        )


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(InvalidKeys, match="20,001 keys"):
        parse_keys(b"keys: [" + b"a," * (KEYS_MAX + 1) + b"]")


@given(st.binary(max_size=200) | st.text("keys:[]{}&*!|>#-'\"\n\\ a,", max_size=60).map(str.encode))
def test_any_bytes_are_keys_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidKeys):
        assert isinstance(parse_keys(data), KeySet)


# ── reloading ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Rig:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.yaml"
        self.path.write_bytes(build_file("first"))
        self.metrics, self._registry = build_metrics()
        self.readiness = Readiness()
        self.file = KeysFile(str(self.path), self.metrics, self.readiness)

    @property
    def is_invalid(self) -> bool:
        return self._registry.get_sample_value("hitcounter_keys_file_invalid") == 1

    def knows(self, token: str) -> bool:
        return self.file.keys.find(token.encode()) is not None


async def test_a_changed_file_is_taken_however_it_is_replaced(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    before = rig.path.stat()
    rig.path.write_bytes(build_file("other"))  # of the same size
    os.utime(rig.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await rig.file.reload()
    assert (rig.knows("first"), rig.knows("other")) == (False, True)
    versions = [tmp_path / name for name in ("v1", "v2")]
    for version, token in zip(versions, ("third", "fourth"), strict=True):
        version.write_bytes(build_file(token))
        link = tmp_path / "link"
        link.symlink_to(version)
        link.replace(rig.path)  # as kubelet updates a mounted Secret
        await rig.file.reload()
        assert rig.knows(token)


async def test_a_file_that_has_not_changed_keeps_the_very_same_keys(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    keys = rig.file.keys
    await rig.file.reload()
    assert rig.file.keys is keys


@pytest.mark.parametrize("trouble", ["bad", "half", "gone", "folder", "pipe", "unreadable", "empty"])
async def test_a_bad_file_changes_nothing_and_is_reported_until_it_is_good(tmp_path: Path, trouble: str) -> None:
    rig = Rig(tmp_path)
    rig.path.unlink()
    match trouble:
        case "bad":
            rig.path.write_bytes(entry(scopes=[]))
        case "half":
            rig.path.write_bytes(build_file("first", "second")[:-20])
        case "folder":
            rig.path.mkdir()
        case "pipe":
            os.mkfifo(rig.path)
        case "unreadable":
            rig.path.symlink_to(rig.path)
        case "empty":
            rig.path.write_bytes(b"")
    async with asyncio.timeout(5):
        await rig.file.reload()
    assert rig.knows("first")
    assert rig.is_invalid
    assert "keys file is not valid" in rig.readiness.warnings[KEYS]
    assert rig.readiness.is_ready
    if rig.path.is_dir():
        rig.path.rmdir()
    else:
        rig.path.unlink(missing_ok=True)
    rig.path.write_bytes(build_file("second"))
    await rig.file.reload()
    assert (rig.knows("first"), rig.knows("second")) == (False, True)
    assert not rig.is_invalid
    assert KEYS not in rig.readiness.warnings


async def test_a_good_file_that_comes_back_unchanged_clears_the_warning(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.path.rename(tmp_path / "aside")
    await rig.file.reload()
    assert rig.is_invalid
    (tmp_path / "aside").rename(rig.path)
    await rig.file.reload()
    assert not rig.is_invalid
    assert KEYS not in rig.readiness.warnings


def test_one_header_of_each_key_is_remembered() -> None:
    keys = parse_keys(build_file("a", "b"))
    access = Access(SimpleNamespace(keys=keys))
    for token in (b"a", b"b"):
        for header in (b"Bearer %b", b"bearer %b", b"Bearer " + b" " * 60_000 + b"%b", b"Bearer %b \t"):
            access.admit(Scope.TRACK, header % token)
    assert list(keys.remembered) == [b"Bearer a", b"Bearer b"]


@pytest.mark.parametrize("data", [b"bad", b"good"])
async def test_garbage_that_exists_during_a_reload_is_collected_later(tmp_path: Path, data: bytes) -> None:
    class Connection:
        """Refers to itself, as each connection does."""

        def __init__(self) -> None:
            self.itself = self

    rig = Rig(tmp_path)
    rig.path.write_bytes(data if data == b"bad" else build_file("other"))
    connection = Connection()
    is_there = weakref.ref(connection)
    await rig.file.reload()
    del connection
    gc.collect()
    assert is_there() is None


def test_a_garbage_collection_scans_few_objects_for_each_key() -> None:
    data = build_file(*map(str, range(1_000)))
    gc.collect()
    before = len(gc.get_objects())
    keys = parse_keys(data)
    gc.collect()
    assert len(gc.get_objects()) - before < 3 * len(keys)


async def test_half_of_a_file_that_is_being_written_allows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    whole = f"keys:\n  - name: a\n    sha256: {digest('other')}\n    scopes: [track]\n    prefixes: [/blog/]\n".encode()
    half = whole[: whole.index(b"    prefixes")]
    assert parse_entries(half)[0].prefixes == [], "it is valid, and allows all ids"
    rig.path.write_bytes(half)
    monkeypatch.setattr("hitcounter_api.keys_file._pause", lambda: rig.path.write_bytes(whole))
    await rig.file.reload()
    caller = rig.file.keys.find(b"other")
    assert caller is not None
    assert caller.prefixes == ("/blog/",)


async def test_a_file_that_is_written_all_the_time_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    names = map(str, itertools.count())
    rig.path.write_bytes(build_file("other"))
    monkeypatch.setattr("hitcounter_api.keys_file._pause", lambda: rig.path.write_bytes(build_file(next(names))))
    await rig.file.reload()
    assert rig.knows("first")
    assert "being written" in str(rig.readiness.warnings[KEYS])


async def test_a_bad_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    parsed: list[bytes] = []

    def parse(data: bytes) -> KeySet:
        parsed.append(data)
        return parse_keys(data)

    monkeypatch.setattr("hitcounter_api.keys_file.parse_keys", parse)
    for data in (b"bad", b"bad", b"worse", b"worse"):
        rig.path.write_bytes(data)
        await rig.file.reload()
        assert rig.is_invalid
    assert parsed == [b"bad", b"worse"]
    rig.path.write_bytes(build_file("first"))
    await rig.file.reload()
    assert not rig.is_invalid


# ── start and commands ──────────────────────────────────────────────────────────────────────────────────────────────


def test_mode_open_needs_no_file() -> None:
    metrics, _ = build_metrics()
    assert open_keys_file(AccessSettings(), metrics, Readiness()) is None


@pytest.mark.parametrize(("name", "message"), [(None, "must be set"), ("nowhere", "cannot be read")])
def test_mode_keys_does_not_start_without_valid_keys(tmp_path: Path, name: str | None, message: str) -> None:
    settings = AccessSettings(mode="keys", keys_file=None if name is None else str(tmp_path / name))
    metrics, _ = build_metrics()
    with pytest.raises(ConfigurationError, match=f"HITCOUNTER_ACCESS__KEYS_FILE: .*{message}"):
        open_keys_file(settings, metrics, Readiness())


def test_a_new_key_is_one_that_the_file_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["key", "new", "--name", "shop", "--scope", "track,read", "--prefix", "/shop/"])
    first, _, line = capsys.readouterr().out.splitlines()
    token = first.rpartition(" ")[2]
    assert token not in line
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n{line}\n")
    caller = parse_keys(path.read_bytes()).find(token.encode())
    assert caller == Caller("shop", frozenset({Scope.TRACK, Scope.READ}), ("/shop/",))
    main(["key", "check", "--file", str(path)])
    assert capsys.readouterr().out == "the file is valid: 1 keys\n"
    main(["key", "list", "--file", str(path)])
    assert capsys.readouterr().out == "shop  token      track,read  prefixes '/shop/'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["key", "new", "--name", "a b", "--scope", "track"],
        ["key", "new", "--name", "a", "--scope", "write"],
        ["key", "check"],
        ["key", "check", "--file", "/nowhere/at/all"],
    ],
)
def test_a_command_that_cannot_work_exits_with_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_file_of_the_settings_is_the_default_of_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_bytes(build_file("a"))
    keys_command.run_key_command(argparse.Namespace(key="check", file=None), str(path))
