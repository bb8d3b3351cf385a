"""POST /v1/chat/completions: OpenAI's chat dialect."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.params import JSONBody

from serve.api import asked
from serve.api.access import request_id
from serve.api.chat_answer import Telling, respond
from serve.api.chat_constraints import constrain_chat
from serve.api.chat_schemas import ChatChunk, ChatCompletion, ChatRequest, InputTokens, Verbose
from serve.api.chat_tools import calling, check_tools
from serve.api.errors import InvalidRequestError
from serve.api.generation import copies, submit
from serve.api.off_loop import OFF_LOOP_CHARS, off_loop
from serve.api.prediction import Drafting, read_drafting
from serve.api.progress import is_watched, watch
from serve.api.sampling import to_params
from serve.api.served import Served, serving
from serve.api.sse import EVENTS
from serve.api.thinking import thinking_of
from serve.chat import prefill
from serve.chat.messages import for_template
from serve.chat.tools import history
from serve.engine.engine import Generation
from serve.engine.request import GenerationRequest


@post(["/v1/chat/completions", "/chat/completions"], status_code=200, streams=(EVENTS, ChatChunk))
async def chat_completions(
    request: Request[Any, Any, Any], data: JSONBody[ChatRequest]
) -> Response[ChatCompletion]:
    """Answer a conversation, at once or as a stream of events."""
    served = await serving(request, data.model)
    token_ids = await read(served, data)
    drafting = await read_drafting(served, data)
    generations = await begin(served, data, token_ids, request_id(request.scope), drafting)
    return await respond(
        request,
        served,
        generations,
        stream=data.stream,
        stream_options=data.stream_options,
        calling=calling(served, data),
        thinking=thinking_of(served, token_ids, data.reasoning_format),
        telling=_telling(served, data, token_ids),
    )


def _telling(served: Served, data: ChatRequest, token_ids: list[int]) -> Telling:
    if not data.verbose:
        return Telling(watch=watch(data))
    text = served.engine.detokenize(token_ids)
    return Telling(watch=watch(data), verbose=Verbose(prompt=text, prompt_tokens=token_ids))


@post(["/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"], status_code=200)
async def count_tokens(request: Request[Any, Any, Any], data: JSONBody[ChatRequest]) -> InputTokens:
    """Count the tokens of a prompt without answering it."""
    served = await serving(request, data.model)
    return InputTokens(input_tokens=len(await read(served, data)))


def render(served: Served, data: ChatRequest) -> str:
    """Return the prompt text of a request."""
    variables = dict(data.chat_template_kwargs or {})
    if data.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", data.reasoning_effort)
    if data.reasoning_effort == "none":
        variables.setdefault("enable_thinking", False)
    tools = None if data.tool_choice == "none" else data.tools
    messages = for_template([msgspec.to_builtins(message) for message in data.messages])
    template = served.chat_template()
    complete = history.complete(messages, template)
    if data.continue_final_message is False:
        return template.render(complete, tools=tools, variables=variables)
    return prefill.render(template, complete, tools=tools, variables=variables)


async def read(served: Served, data: ChatRequest) -> list[int]:
    """Check, render and tokenize."""
    _refuse(served, data)
    size = sum(len(str(message.content)) for message in data.messages)
    size += OFF_LOOP_CHARS if data.tools else 0
    return await off_loop(size, lambda: served.tokenize_rendered(render(served, data)))


async def begin(
    served: Served,
    data: ChatRequest,
    token_ids: list[int],
    name: str,
    drafting: Drafting = Drafting(),  # noqa: B008  # immutable
) -> list[Generation]:
    """Submit a prompt that has been read; with this the last refusal is past, before any header."""
    limits = served.settings.limits
    n = asked.choices(data.n, limits)
    limit = asked.max_tokens(data.max_completion_tokens, data.max_tokens, data.n_predict)
    top = (data.top_logprobs or 0) if data.logprobs else None
    first = GenerationRequest(
        prompt_token_ids=token_ids,
        sampling=to_params(data, served, logprobs=top),
        stop=asked.stop_strings(data.stop, limits),
        max_tokens=limit,
        priority=asked.priority(limit, data.service_tier),
        ignore_eos=bool(data.ignore_eos),
        request_id=name,
        prediction_token_ids=drafting.prediction_token_ids,
        drafts=drafting.drafts,
        constraint=await constrain_chat(served, data, token_ids),
        from_cache=data.cache_prompt is not False,
        reports_progress=is_watched(data, stream=data.stream),
    )
    return submit(served, copies(first, n), data.lora)


def _refuse(served: Served, data: ChatRequest) -> None:
    limit = served.settings.limits.messages
    if not 1 <= len(data.messages) <= limit:
        raise InvalidRequestError(
            f"messages holds {len(data.messages)} entries; it must be 1 to {limit}",
            param="messages",
        )
    if data.continue_final_message and data.add_generation_prompt:
        raise InvalidRequestError(
            "continue_final_message and add_generation_prompt exclude each other; send one",
            param="continue_final_message",
        )
    _refuse_others(data)
    check_tools(data.tools or [])
    can_tools = served.capabilities is not None and served.capabilities.supports_tools
    if data.tools and data.tool_choice != "none" and not can_tools:
        raise InvalidRequestError(
            f"the chat template of {served.model_id} does not know tools; send the request "
            "without them, or serve with --set tools.generic=true",
            param="tools",
        )


def _refuse_others(data: ChatRequest) -> None:
    """Refuse what would be missing from the answer without a word."""
    if data.functions:
        raise InvalidRequestError("functions are called tools now; send tools", param="functions")
    if set(data.modalities or ()) - {"text"}:
        raise InvalidRequestError(
            f"modalities is {data.modalities}; this server writes text only", param="modalities"
        )
