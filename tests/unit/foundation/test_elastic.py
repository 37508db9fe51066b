"""A flush is one where each shard, and not only each shard that is there, has its documents on disk."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices
from hitcounter.errors import IndexUnavailable
from hitcounter.settings import IndexSettings


@dataclass
class Answers:
    """An Elasticsearch with one answer to each question, for every index.

    Attributes:
        shards: of a flush, as (total, successful, failed).
        copies: of each shard that has any, whether each is the primary.
        number_of_shards: as the index was made.
    """

    shards: tuple[int, int, int]
    copies: tuple[tuple[bool, ...], ...] = ()
    number_of_shards: int = 1

    async def flush(self, *, index: str, wait_if_ongoing: bool) -> Any:
        return {"_shards": dict(zip(("total", "successful", "failed"), self.shards, strict=True))}

    async def stats(self, *, index: str, metric: str, level: str) -> Any:
        shards = {
            str(number): [{"routing": {"primary": is_primary}} for is_primary in copies]
            for number, copies in enumerate(self.copies)
        }
        return {"indices": {index: {"shards": shards}} if shards else {}}

    async def get_settings(self, *, index: str, name: str, flat_settings: bool) -> Any:
        return {index: {"settings": {name: str(self.number_of_shards)}}}


def indices_of(answers: Answers) -> Indices:
    client = cast("AsyncElasticsearch", SimpleNamespace(indices=answers))
    return Indices(client, "hits", IndexSettings())


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(Answers((1, 1, 0)), id="one shard"),
        pytest.param(Answers((4, 4, 0), number_of_shards=2), id="all copies"),
        pytest.param(Answers((2, 1, 0), ((True,),)), id="a replica that is nowhere"),
        pytest.param(Answers((4, 2, 0), ((True,), (True,)), 2), id="two replicas that are nowhere"),
    ],
)
async def test_flush_on_every_shard_is_one(answers: Answers) -> None:
    await indices_of(answers).flush(["hits-2026.11.24", "hits-2026.11.23"])


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(Answers((1, 0, 0)), id="no copy at all"),
        pytest.param(Answers((1, 0, 1)), id="one that failed"),
        pytest.param(Answers((2, 1, 0), ((True,),), 2), id="one of two shards without a copy"),
        pytest.param(Answers((4, 2, 0), ((True, False),), 2), id="one shard twice, and the other without a copy"),
        pytest.param(Answers((4, 2, 0), ((True, False), (False,)), 2), id="a replica that became no primary yet"),
    ],
)
async def test_flush_that_left_a_shard_out_is_none(answers: Answers) -> None:
    with pytest.raises(IndexUnavailable, match=r"cannot flush the index hits-2026\.11\.24"):
        await indices_of(answers).flush(["hits-2026.11.24"])
