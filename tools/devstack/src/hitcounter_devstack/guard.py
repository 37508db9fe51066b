"""The guard: a small process between this program and a server, so that the server never outlives the program.

It runs as a script by its path (`python -I -S guard.py OPTIONS COMMAND...`), imports none of our modules and knows no
server. Its standard input is a pipe whose other end only the parent has. When the parent ends, even by SIGKILL, the
pipe closes, and the guard stops the server with its whole process group. This works on all Unix systems. Unlike
PR_SET_PDEATHSIG it depends on the parent process, not on the thread that started the server.

The guard has its own session, so that a SIGKILL to the parent's group or a closed terminal does not reach it. The
server has its own process group in that session: signals to the group reach all of its processes, for example both Java
processes of Elasticsearch, and never the guard.

It writes two lines to a separate descriptor: the pid of the server (or `error: why`), then its exit code, which is
negative for a signal.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

GROUP_GONE_SECONDS = 3.0


def kill_group(group: int) -> None:
    """Kill a process group that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
        os.killpg(group, signal.SIGKILL)


def end_leftovers(group: int) -> None:
    """Kill what the ended leader left behind, and wait until it is gone and its port is free."""
    # Bounded: under a PID 1 that reaps nobody, a zombie stays for ever.
    deadline = time.monotonic() + GROUP_GONE_SECONDS
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.01)


def main() -> None:
    """Start the command, tell its pid, and stay until it or the parent ends."""
    options = json.loads(sys.argv[1])
    report = os.fdopen(options["report_fd"], "w", buffering=1)
    try:
        child = subprocess.Popen(
            sys.argv[2:],
            stdin=subprocess.DEVNULL,
            process_group=0,
            cwd=options["cwd"],
            user=options["uid"],
            group=options["gid"],
            extra_groups=None if options["uid"] is None else [],
        )
    except OSError as error:
        report.write(f"error: {error}\n")
        return

    def end_with_parent() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        kill_group(child.pid)

    signal.signal(signal.SIGTERM, lambda *_: kill_group(child.pid))
    report.write(f"{child.pid}\n")
    threading.Thread(target=end_with_parent, daemon=True).start()
    exit_code = child.wait()
    end_leftovers(child.pid)
    with contextlib.suppress(BrokenPipeError):  # nobody is left to be told
        report.write(f"{exit_code}\n")


if __name__ == "__main__":
    main()
