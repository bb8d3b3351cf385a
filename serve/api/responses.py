"""/v1/responses: OpenAI's dialect for agents, with responses that can be gone on from."""

from typing import Any, cast

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, JSONBody

from serve.api import chat
from serve.api.access import CACHE_SCOPE, request_id
from serve.api.answer_reader import AnswerReader
from serve.api.chat_tools import calling
from serve.api.disconnect import unless_disconnected
from serve.api.errors import ApiError, InvalidRequestError, ResponseNotFoundError
from serve.api.generation import collect
from serve.api.responses_answer import Events, Writing, frames, opened, refused
from serve.api.responses_input import input_items, to_chat
from serve.api.responses_schemas import (
    Deleted,
    Item,
    ItemList,
    ResponseBody,
    ResponseEvent,
    ResponseRequest,
)
from serve.api.responses_store import Kept, ResponseStore
from serve.api.served import serving
from serve.api.sse import EVENTS, AnswerStream
from serve.api.thinking import thinking_of
from serve.engine.engine import Generation
from serve.engine.errors import PromptTooLongError

_PATHS = ["/v1/responses", "/responses"]
_ONE = [f"{path}/{{response_id:str}}" for path in _PATHS]


@post(_PATHS, status_code=200, streams=(EVENTS, ResponseEvent))
async def create(
    request: Request[Any, Any, Any], data: JSONBody[ResponseRequest]
) -> Response[ResponseBody]:
    """Answer a conversation, at once or as a stream of events."""
    served, store = await serving(request, data.model), store_of(request)
    _refuse(data)
    items = [*_earlier(store, data.previous_response_id), *input_items(data)]
    is_stored = data.store is not False and store.is_open
    kept = Kept(store, CACHE_SCOPE.get(), items)
    asking = to_chat(data, items)
    body = opened(served, data, is_stored=is_stored)
    try:
        token_ids = await chat.read(served, asking)
        [generation] = await chat.begin(served, asking, token_ids, request_id(request.scope))
    except PromptTooLongError as error:
        if not data.stream:
            raise
        # Agents that shorten their conversation look for this one in the stream.
        writing = Writing(served, data, body, AnswerReader(None))
        return _stream(writing, refused(error), kept)
    reader = AnswerReader(calling(served, asking), thinking_of(served, token_ids))
    writing = Writing(served, data, body, reader)
    if is_stored:
        kept.begin(body, generation)
    if data.stream:
        return _stream(writing, writing.events(generation), kept, generation)
    return await _whole(request, writing, kept, generation)


@get(_ONE)
async def retrieve(request: Request[Any, Any, Any], response_id: FromPath[str]) -> ResponseBody:
    """Return a stored response, as far as it has come."""
    return store_of(request).get(CACHE_SCOPE.get(), response_id).body


@get([f"{path}/input_items" for path in _ONE])
async def list_input(request: Request[Any, Any, Any], response_id: FromPath[str]) -> ItemList:
    """List what a stored response was asked."""
    items = store_of(request).get(CACHE_SCOPE.get(), response_id).items
    named = [{"id": f"item_{response_id}_{index}"} | each for index, each in enumerate(items)]
    ids = [str(each["id"]) for each in named] or [""]
    return ItemList(data=named, first_id=ids[0], last_id=ids[-1])


@delete(_ONE, status_code=200)
async def forget(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Deleted:
    """Forget a stored response; one that is being made is made to its end."""
    store_of(request).delete(CACHE_SCOPE.get(), response_id)
    return Deleted(id=response_id)


@post([f"{path}/cancel" for path in _ONE], status_code=200)
async def cancel(request: Request[Any, Any, Any], response_id: FromPath[str]) -> ResponseBody:
    """Stop a response that is being made."""
    return store_of(request).cancel(CACHE_SCOPE.get(), response_id)


def store_of(request: Request[Any, Any, Any]) -> ResponseStore:
    """Return the responses of this application."""
    return cast("ResponseStore", request.app.state.responses)


def _earlier(store: ResponseStore, response_id: str | None) -> list[Item]:
    """Return the conversation that a stored response ended."""
    if response_id is None:
        return []
    try:
        return store.get(CACHE_SCOPE.get(), response_id).conversation()
    except ResponseNotFoundError as error:
        raise InvalidRequestError(
            str(error), param="previous_response_id", code="previous_response_not_found"
        ) from error


def _stream(
    writing: Writing, events: Events, kept: Kept, *generations: Generation
) -> Response[ResponseBody]:
    told = frames(writing, events, lambda error: kept.end(writing, error))
    return AnswerStream(told, generations, EVENTS)


async def _whole(
    request: Request[Any, Any, Any], writing: Writing, kept: Kept, generation: Generation
) -> Response[ResponseBody]:
    try:
        outcome = await unless_disconnected(request, collect(generation))
    except ApiError as error:
        if kept.end(writing, error).status == "cancelled":
            return Response(writing.body)
        raise
    finally:
        generation.cancel()
    writing.whole(outcome)
    return Response(kept.end(writing, None))


def _refuse(data: ResponseRequest) -> None:
    """Refuse what a client would rely on and not get."""
    if data.background:
        raise InvalidRequestError(
            "background is not supported; ask with stream and read on", param="background"
        )
    for name in ("conversation", "prompt"):
        if getattr(data, name):
            raise InvalidRequestError(
                f"{name} is not stored here; send the input itself, or previous_response_id",
                param=name,
            )
    if data.truncation not in {None, "disabled"}:
        raise InvalidRequestError(
            f"truncation {data.truncation!r} is not supported: nothing is left out in silence; "
            "shorten the input",
            param="truncation",
        )
