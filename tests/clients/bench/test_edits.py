"""The scenarios of predictions, against a fake on a real socket."""

from __future__ import annotations

import pytest

from clients.async_client import AsyncClient
from clients.bench.edits import NEW_NAME, OLD_NAME
from clients.bench.fim_routes import FimRoute
from clients.bench.registry import WORKLOADS
from clients.bench.workloads import Sizes, Turn, WorkloadError


async def play(fake_server, scenario):
    async with AsyncClient(fake_server.base_url) as client:
        fim = FimRoute(kind="infill")
        turn = Turn(client=client, fim=fim, key="k", sizes=Sizes(num_edited_tokens=9))
        return await WORKLOADS[scenario](turn)


@pytest.mark.parametrize("scenario", ["edit", "unforeseen"])
async def test_the_same_is_asked_with_drafts_and_without_once_the_prompt_is_read(
    fake_server, scenario
):
    fake_server.words = ["x "] * 9
    figures = await play(fake_server, scenario)
    first, *asks = fake_server.bodies("/v1/completions")
    assert first["max_tokens"] == 1
    assert [ask.get("drafts") for ask in asks] == [False, None, None, False]
    assert {ask["max_tokens"] for ask in asks} == {9}
    assert len({ask["prompt"] for ask in asks}) == 1
    assert all(ask["prediction"]["type"] == "content" for ask in asks)
    ratio = figures["tokens_per_second"] / figures["plain_tokens_per_second"]
    assert figures["speedup"] == pytest.approx(ratio)


async def test_the_prediction_of_an_edit_is_the_file_without_it(fake_server):
    fake_server.words = ["x "] * 9
    await play(fake_server, "edit")
    ask = fake_server.bodies("/v1/completions")[-1]
    predicted = ask["prediction"]["content"]
    assert predicted in ask["prompt"]
    assert OLD_NAME in predicted
    assert NEW_NAME not in predicted


async def test_an_answer_too_short_to_time_is_no_figure(fake_server):
    fake_server.words = ["x "]
    with pytest.raises(WorkloadError, match="too few"):
        await play(fake_server, "edit")
