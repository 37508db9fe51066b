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


def wait_for_change(seen: float) -> None:
    """Return once a source file is newer than what was seen."""
    while newest_change() == seen:
        time.sleep(LOOK_SECONDS)


def main() -> None:
    """Run, watch, run anew; a command that ended by itself is run again after the next change."""
    command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    while True:
        seen = newest_change()
        with subprocess.Popen(command) as child:  # waits for its end
            try:
                wait_for_change(seen)
            finally:
                child.terminate()
        print(f"reload: running {' '.join(command)} anew", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
