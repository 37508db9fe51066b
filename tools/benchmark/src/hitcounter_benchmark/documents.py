"""Counts documents in Elasticsearch directly: the API counts hits, and a document may contain many."""

import json
import time
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5


def count_documents(elasticsearch_url: str, index_prefix: str = "hits") -> int:
    """Return the countable documents of all days; 0 where there is no day yet."""
    return int(_ask(f"{elasticsearch_url}/{index_prefix}/_count").get("count", 0))


def wait_until_merged(elasticsearch_url: str, patience_seconds: float = 120.0) -> None:
    """Wait until Elasticsearch merges nothing: what was stored before must not cost what is measured now."""
    deadline = time.monotonic() + patience_seconds
    while _count_merges(elasticsearch_url) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _count_merges(elasticsearch_url: str) -> int:
    answer = _ask(f"{elasticsearch_url}/_stats/merge?filter_path=_all.total.merges.current")
    return int(answer["_all"]["total"]["merges"]["current"])


def _ask(url: str) -> Any:
    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            return json.loads(answer.read())
    except HTTPError as error:
        if error.code == 404:
            return {}
        raise
