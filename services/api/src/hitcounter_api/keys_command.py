"""The commands `hitcounter-api key new | list | check`."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
from collections.abc import Iterator, Sequence

import orjson
from hitcounter.errors import ConfigurationError

from hitcounter_api.keys import KeyEntry, parse_entries, parse_keys
from hitcounter_api.keys_file import read_keys_file


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of hitcounter-api."""
    commands = parser.add_subparsers(dest="command", metavar="key")
    key = commands.add_parser("key", help="make, list and check API keys").add_subparsers(dest="key", required=True)
    new = key.add_parser("new", help="print a new token, once, and the entry for the keys file")
    new.add_argument("--name", required=True, help="name of the key, for logs")
    new.add_argument("--scope", required=True, help="track, read and admin, separated by commas")
    new.add_argument("--prefix", action="append", default=[], help="allow only ids with this prefix; may be repeated")
    for name, text in (
        ("list", "list the keys of the file"),
        ("check", "check the file; exit with 1 if it is invalid"),
    ):
        command = key.add_parser(name, help=text)
        command.add_argument("--file", help="path of the keys file; default: HITCOUNTER_ACCESS__KEYS_FILE")


def run_key_command(options: argparse.Namespace, keys_file: str | None) -> None:
    """Run one of the commands.

    Raises:
        InvalidKeys: the arguments or the file are not valid.
        ConfigurationError: no file is named.
    """
    if options.key == "new":
        sys.stdout.writelines(f"{line}\n" for line in make_key(options.name, options.scope, options.prefix))
        return
    path = options.file or keys_file
    if path is None:
        raise ConfigurationError("name the keys file with --file or HITCOUNTER_ACCESS__KEYS_FILE")
    entries = parse_entries(read_keys_file(path))
    lines = describe_keys(entries) if options.key == "list" else [f"the file is valid: {len(entries):,} keys"]
    sys.stdout.writelines(f"{line}\n" for line in lines)


def make_key(name: str, scopes: str, prefixes: list[str]) -> Iterator[str]:
    """Yield the token, which is stored nowhere, and the entry for the keys file.

    Raises:
        InvalidKeys: name, scope or prefix are not valid.
    """
    token = f"hc_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    entry = {"name": name, "sha256": digest, "scopes": scopes.split(",")} | ({"prefixes": prefixes} if prefixes else {})
    line = orjson.dumps(entry).decode()
    parse_keys(f'{{"keys": [{line}]}}'.encode())
    yield f"token (shown only now): {token}"
    yield "entry for the list `keys` of the keys file:"
    yield f"  - {line}"


def describe_keys(entries: Sequence[KeyEntry]) -> Iterator[str]:
    """Yield a line for each key, without its digest."""
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        yield f"{entry.name:{width}}  {_describe(entry)}"


def _describe(entry: KeyEntry) -> str:
    kind = "anonymous" if entry.anonymous else "token"
    prefixes = f"  prefixes {' '.join(map(repr, entry.prefixes))}" if entry.prefixes else ""
    return f"{kind:9}  {','.join(entry.scopes)}{prefixes}"
