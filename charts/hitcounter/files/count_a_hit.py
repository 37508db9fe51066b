"""Posts a hit and waits until it is counted. `helm test` runs it. It uses only Python's standard library.

Arguments: the URL of the API, and the time-out in seconds. The exit status is 0 if the hit was counted.
"""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid

# Ignore proxy variables: the API is a Service inside the cluster.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
url, timeout_seconds = sys.argv[1], float(sys.argv[2])
hit_id = f"helm-test-{uuid.uuid4()}"
deadline = time.monotonic() + timeout_seconds


def call(path: str, body: bytes | None = None) -> bytes:
    """Send the request until the API answers. Its Service may have no endpoints yet."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}{path}", body, timeout=5) as answer:  # noqa: S310 - from the chart
                return bytes(answer.read())
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"{url}{path}: {error}")
            time.sleep(1)


call("/analytics", json.dumps({"id": hit_id}).encode())
print(f"posted one hit with the id {hit_id}", flush=True)  # noqa: T201 - the log is the output
while True:
    counts = {row["reference"]: row["count"] for row in json.loads(call(f"/analytics/{hit_id}"))["counts"]}
    if set(counts.values()) == {1}:
        print(f"counted: {counts}")  # noqa: T201
        break
    if time.monotonic() > deadline:
        sys.exit(
            f"not counted after {timeout_seconds:.0f} s: {counts}. Check that an indexer is ready, and see GET /status."
        )
    time.sleep(1)
