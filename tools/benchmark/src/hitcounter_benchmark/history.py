"""Where records of measurements are kept: JSON files, named so that they sort by time and tell their commit."""

import argparse
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import orjson

from hitcounter_benchmark.arguments import parse_new_file
from hitcounter_benchmark.progress import say


def add_record_options(add: Callable[..., object]) -> None:
    """Add the options that say where the record goes to a parser."""
    add("--json", type=parse_new_file, metavar="FILE", help="write machine, versions and all that was measured there")
    history = "write the same into this folder, under a name with date and commit"
    add("--history", type=_parse_folder, metavar="FOLDER", help=history)


def write_record(kind: str, record: Mapping[str, object], options: argparse.Namespace) -> None:
    """Write the record wherever the options of `add_record_options` say."""
    now, commit = datetime.now(UTC), read_commit()
    content = orjson.dumps(
        {"kind": kind, "measured_at": now.isoformat(timespec="seconds"), "commit": commit, **record},
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
    )
    for file in (options.json, options.history and options.history / name_record(kind, now, commit)):
        if file is not None:
            file.write_bytes(content + b"\n")
            say(f"written: {file}")


def name_record(kind: str, moment: datetime, commit: str) -> str:
    """Return the file name of a record."""
    return f"{kind}-{moment:%Y-%m-%d-%H%M}-{commit}.json"


def read_commit() -> str:
    """Return the short commit of the working copy we are in, or ``unknown`` outside of one."""
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _parse_folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return folder
