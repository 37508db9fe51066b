"""Posts a hit and waits until it is counted: what `helm test` runs, with nothing but Python's own library.

Arguments: the API's address, and the seconds that counting may take. Exit status 0 if the hit was counted.
"""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid

# A proxy of the environment leads out of the cluster; the API is a Service inside.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
url, timeout_seconds = sys.argv[1], float(sys.argv[2])
hit_id = f"helm-test-{uuid.uuid4()}"
deadline = time.monotonic() + timeout_seconds


def call(path: str, body: bytes | None = None) -> bytes:
    """Ask until the API answers; its Service may not know the pods yet."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}{path}", body, timeout=5) as answer:  # noqa: S310 - the chart gives it
                return bytes(answer.read())
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"{url}{path}: {error}")
            time.sleep(1)


call("/analytics", json.dumps({"id": hit_id}).encode())
print(f"posted one hit of {hit_id}", flush=True)  # noqa: T201 - its log is its output
while True:
    counts = {row["reference"]: row["count"] for row in json.loads(call(f"/analytics/{hit_id}"))["counts"]}
    if set(counts.values()) == {1}:
        print(f"counted: {counts}")  # noqa: T201
        break
    if time.monotonic() > deadline:
        sys.exit(f"not counted after {timeout_seconds:.0f} s: {counts}. Is an indexer ready? GET /status tells more.")
    time.sleep(1)
