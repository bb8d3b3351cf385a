"""POST /v1/messages and /v1/messages/count_tokens: the Anthropic dialect; Claude Code speaks it."""

from typing import Any

from litestar import Request, Response, Router, post
from litestar.params import JSONBody

from serve.api import chat
from serve.api.access import request_id
from serve.api.answer_reader import AnswerReader
from serve.api.anthropic_answer import HANDLERS, respond
from serve.api.anthropic_messages import to_chat
from serve.api.anthropic_schemas import (
    AnthropicEvent,
    CountBody,
    CountRequest,
    MessageBody,
    MessagesRequest,
)
from serve.api.chat_schemas import ChatRequest
from serve.api.chat_tools import calling
from serve.api.served import Served, serving
from serve.api.sse import EVENTS
from serve.api.thinking import thinking_of


@post("/messages", status_code=200, streams=(EVENTS, AnthropicEvent))
async def messages(
    request: Request[Any, Any, Any], data: JSONBody[MessagesRequest]
) -> Response[MessageBody]:
    """Answer a conversation, at once or as a stream of events."""
    served = await serving(request, data.model)
    asking = _chat(served, data)
    token_ids = await chat.read(served, asking)
    [generation] = await chat.begin(served, asking, token_ids, request_id(request.scope))
    return await respond(
        request,
        served,
        generation,
        AnswerReader(calling(served, asking), thinking_of(served, token_ids)),
        num_prompt_tokens=len(token_ids) if data.stream else None,
    )


@post("/messages/count_tokens", status_code=200)
async def count_tokens(
    request: Request[Any, Any, Any], data: JSONBody[CountRequest]
) -> Response[CountBody]:
    """Count the tokens of a prompt without answering it."""
    served = await serving(request, data.model)
    token_ids = await chat.read(served, _chat(served, data))
    return Response(CountBody(input_tokens=len(token_ids)))


def _chat(served: Served, data: CountRequest) -> ChatRequest:
    return to_chat(data, normalise_nonces=served.settings.api.normalise_nonces)


router = Router(
    path="/v1", route_handlers=[messages, count_tokens], exception_handlers=dict(HANDLERS)
)
