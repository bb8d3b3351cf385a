import json

import httpx

from clients import AsyncClient
from clients.bench.fim_routes import routes_of


def client(*, has_infill: bool, has_marks: bool | None) -> AsyncClient:
    """A server; `has_marks` None: it has no tokenizer route."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/infill" and has_infill:
            return httpx.Response(200, json={"content": "x"})
        if request.url.path == "/tokenize" and has_marks is not None:
            mark = json.loads(request.content)["content"]
            is_one = has_marks and mark.startswith("<|fim")
            return httpx.Response(200, json={"tokens": [1] if is_one else [1, 2]})
        return httpx.Response(404)

    return AsyncClient("http://x", transport=httpx.MockTransport(answer))


async def kinds(*clients: AsyncClient) -> list[str]:
    return [route.kind for route in await routes_of(clients)]


async def test_where_all_take_infill_all_get_it():
    both = client(has_infill=True, has_marks=None)
    assert await kinds(both, both) == ["infill", "infill"]


async def test_where_one_lacks_infill_its_prompt_is_spelled_with_the_models_marks():
    has, lacks = client(has_infill=True, has_marks=True), client(has_infill=False, has_marks=None)
    first, second = await routes_of([has, lacks])
    assert first.ask("a", "b", 4).kind == "fim"
    ask = second.ask("a", "b", 4)
    assert (ask.kind, ask.prompt) == (
        "complete",
        "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    )


async def test_without_known_marks_the_text_before_the_gap_has_to_do():
    has, lacks = client(has_infill=True, has_marks=False), client(has_infill=False, has_marks=None)
    _, second = await routes_of([has, lacks])
    assert second.kind == "plain"
    assert second.ask("a", "b", 4).prompt == "a"


async def test_a_model_that_nobody_fills_in_with_gets_plain_completions():
    neither = client(has_infill=False, has_marks=True)
    assert await kinds(neither, neither) == ["plain", "plain"]
