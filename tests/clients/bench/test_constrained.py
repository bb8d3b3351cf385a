"""The scenario of schemas, against a fake on a real socket."""

from __future__ import annotations

import pytest

from clients.async_client import AsyncClient
from clients.bench.constrained import RECORDS, STRINGS
from clients.bench.fim_routes import FimRoute
from clients.bench.registry import WORKLOADS
from clients.bench.workloads import Sizes, Turn


async def test_the_same_prompt_is_asked_with_each_schema_and_without_there_and_back(fake_server):
    fake_server.words = ["x "] * 9
    async with AsyncClient(fake_server.base_url) as client:
        sizes = Sizes(num_edited_tokens=9)
        turn = Turn(client=client, fim=FimRoute(kind="infill"), key="k", sizes=sizes)
        figures = await WORKLOADS["constrained"](turn)
    asks = fake_server.bodies("/v1/completions")
    assert len({ask["prompt"] for ask in asks}) == 1
    assert [ask["max_tokens"] for ask in asks] == [1] * 3 + [9] * 6
    schemas = [None, RECORDS, STRINGS]
    assert [ask.get("json_schema") for ask in asks] == [*schemas, *schemas, *reversed(schemas)]
    assert all(ask["drafts"] is False for ask in asks)
    ratio = figures["tokens_per_second"] / figures["plain_tokens_per_second"]
    assert figures["to_plain"] == pytest.approx(ratio)
