"""Comparing what clients were told with what is counted."""

from __future__ import annotations

from tests.support.client import RecordingClient
from tests.support.stack import ApiClient

LONGEST = "3 days ago"


def assert_counted_exactly(api: ApiClient, client: RecordingClient) -> None:
    """Every id: acknowledged <= counted <= acknowledged + unknown; and the ledger balances with nothing left."""
    status = api.wait_drained()
    wrong = {}
    for id_ in client.acknowledged | client.unknown:
        counted, acknowledged = api.counts(id_)[LONGEST], client.acknowledged[id_]
        if not acknowledged <= counted <= acknowledged + client.unknown[id_]:
            wrong[id_] = (acknowledged, counted, client.unknown[id_])
    assert not wrong, f"(acknowledged, counted, unknown) of the wrong ids: {wrong}"
    assert status["backlog"] == 0
    assert status["dead"] == 0
    assert status["accepted"] == status["indexed"] + status["duplicate"]
    assert client.acknowledged.total() <= status["accepted"] <= client.acknowledged.total() + client.unknown.total()
