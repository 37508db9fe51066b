"""Runs a command, and runs it anew whenever a source file changes.

This is what the dev images do, so that `skaffold dev` shows an edit within a second or two. Nothing but Python needed.

Usage: reload.py COMMAND [ARGUMENT...]. Watches the folders of PYTHONPATH. SIGTERM ends the command, then us.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOK_SECONDS = 0.5


def newest_change() -> float:
    """Return the time of the last change to a source file."""
    folders = [Path(folder) for folder in os.environ["PYTHONPATH"].split(":")]  # noqa: TID251 - it has no settings
    files = [path for folder in folders for suffix in ("py", "lua") for path in folder.rglob(f"*.{suffix}")]
    return max((path.stat().st_mtime for path in files), default=0.0)


def main() -> None:
    """Run, watch, run anew; a command that ended by itself is run again after the next change."""
    command = sys.argv[1:]
    seen = newest_change()
    child = subprocess.Popen(command)

    def end(*_: object) -> None:
        child.terminate()
        sys.exit(child.wait())

    signal.signal(signal.SIGTERM, end)
    while True:
        time.sleep(LOOK_SECONDS)
        changed = newest_change()
        if changed != seen:
            seen = changed
            print(f"reload: running {' '.join(command)} anew", file=sys.stderr, flush=True)
            child.terminate()
            child.wait()
            child = subprocess.Popen(command)


if __name__ == "__main__":
    main()
