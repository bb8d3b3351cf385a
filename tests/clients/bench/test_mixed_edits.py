"""The scenario of someone who types beside a long prompt, against a fake on a real socket."""

from __future__ import annotations

from clients.async_client import AsyncClient
from clients.bench.fim_routes import FimRoute
from clients.bench.mixed_edits import TYPED
from clients.bench.registry import WORKLOADS
from clients.bench.workloads import Sizes, Turn


async def test_a_file_is_opened_first_and_each_request_has_a_little_more_typed(fake_server):
    fim = FimRoute(kind="spelled", marks=("<P>", "<S>", "<M>"))
    async with AsyncClient(fake_server.base_url) as client:
        sizes = Sizes(num_long_functions=2, long_seconds=0.01)
        figures = await WORKLOADS["mixed-edits"](Turn(client=client, fim=fim, key="k", sizes=sizes))
    prompts = [body["prompt"] for body in fake_server.bodies("/v1/completions")]
    (long,) = [prompt for prompt in prompts if "# module k" in prompt]
    gaps = sorted((prompt for prompt in prompts if prompt != long), key=len)
    assert prompts[0] == gaps[0]
    before, after = zip(*(gap.split("<S>") for gap in gaps), strict=True)
    assert [text.removeprefix(before[0]) for text in before] == [
        "".join(TYPED[:number]) for number in range(len(TYPED) + 1)
    ]
    assert len(set(after)) == 1
    assert set(figures) == {
        "first_token_p50_seconds",
        "first_token_p95_seconds",
        "long_first_token_seconds",
    }
