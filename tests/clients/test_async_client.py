"""The asynchronous client does what the synchronous one does; both run the same core."""

import asyncio
import inspect

import httpx
import pytest

from clients import AsyncClient, Client, RetryPolicy, errors


async def test_answers_and_streams_match_the_sync_client(fake_server):
    async with AsyncClient(fake_server.base_url) as talk:
        whole = await talk.chat("x")
        async with await talk.stream_chat("x") as stream:
            text = "".join([chunk.text async for chunk in stream])
    with Client(fake_server.base_url) as sync:
        assert sync.chat("x") == whole
    assert text == whole.text
    assert stream.usage == whole.usage


async def test_several_requests_run_at_once(fake_server):
    async with AsyncClient(fake_server.base_url) as talk:
        answers = await asyncio.gather(*(talk.complete(f"p{n}") for n in range(5)))
    assert len({answer.text for answer in answers}) == 1
    prompts = {body["prompt"] for body in fake_server.bodies("/v1/completions")}
    assert prompts == {"p0", "p1", "p2", "p3", "p4"}


async def test_cancelling_the_task_reaches_the_server(fake_server):
    fake_server.is_endless = True
    started = asyncio.Event()

    async def read(talk: AsyncClient) -> None:
        async with await talk.stream_chat("x") as stream:
            async for _ in stream:
                started.set()

    async with AsyncClient(fake_server.base_url) as talk:
        task = asyncio.create_task(read(talk))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(fake_server.client_left.wait, 30)


async def test_errors_are_the_same_tree():
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            raise httpx.ConnectError("refused")
        return httpx.Response(400, json={"error": {"message": "no"}})

    transport = httpx.MockTransport(handle)
    retry = RetryPolicy(base_seconds=0.0)
    async with AsyncClient("http://h", transport=transport, retry=retry) as talk:
        with pytest.raises(errors.UnreachableError):
            await talk.models()
        with pytest.raises(errors.BadRequestError):
            await talk.stream_chat("x")


def test_both_clients_offer_the_same_methods_with_the_same_parameters():
    def face(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert face(AsyncClient) == face(Client)
