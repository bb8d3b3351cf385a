"""POST /api/chat and /api/generate: the part of Ollama's dialect that editors use."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.params import JSONBody

from serve.api import asked, embeddings, ollama_history, ollama_models
from serve.api.access import request_id
from serve.api.answer_reader import (
    AnswerReader,
    Piece,
    PlacedCall,
    calls_of,
    content_of,
    thoughts_of,
)
from serve.api.chat_constraints import Choice, chosen, constraint_of
from serve.api.chat_tools import calling_of, check_tools
from serve.api.constraints import ANY_OBJECT, Form, from_schema
from serve.api.errors import InvalidRequestError
from serve.api.generation import submit
from serve.api.keep_alive import keep_seconds
from serve.api.off_loop import OFF_LOOP_CHARS, off_loop
from serve.api.ollama_answer import HANDLERS, MEDIA_TYPE, Shape, loaded, respond
from serve.api.ollama_schemas import (
    OllamaCalledFunction,
    OllamaChatPiece,
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaOptions,
    OllamaPiece,
    OllamaRequest,
    OllamaTextPiece,
    OllamaToolCall,
    OllamaTurn,
)
from serve.api.prompts import Prompt, fim_prompt
from serve.api.sampling import to_params
from serve.api.served import Served, find, house_of, serving
from serve.api.thinking import thinking_of, thinks
from serve.chat import prefill
from serve.chat.messages import for_template
from serve.chat.tools import history
from serve.engine.engine import Generation
from serve.engine.request import Constraint, GenerationRequest


@post("/api/chat", status_code=200, streams=(MEDIA_TYPE, OllamaChatPiece))
async def chat(
    request: Request[Any, Any, Any], data: JSONBody[OllamaChatRequest]
) -> Response[OllamaChatPiece]:
    """Answer a conversation, as lines of JSON unless `stream` is false."""
    if not data.messages:
        return await _asked_for_model(request, data, _turn)
    served = await serving(request, data.model, keep_seconds=keep_seconds(data.keep_alive))
    _refuse(served, data)
    _refuse_chat(served, data)
    size = sum(len(each.content or "") for each in data.messages)
    size += OFF_LOOP_CHARS if data.tools else 0
    token_ids = await off_loop(size, lambda: _read_chat(served, data))
    tools = data.tools or []
    choice = chosen(tools, None, parallel=True)
    constraint = await constraint_of(served, _form(data), choice, token_ids)
    name = request_id(request.scope)
    generation = _start(served, data, token_ids, name, fim=False, constraint=constraint)
    calling = calling_of(served, tools, parallel=True) if tools else None
    reader = AnswerReader(calling, thinking_of(served, token_ids), whole_calls=True)
    return await respond(request, served, generation, _turn, stream=data.stream, reader=reader)


@post("/api/generate", status_code=200, streams=(MEDIA_TYPE, OllamaTextPiece))
async def generate(
    request: Request[Any, Any, Any], data: JSONBody[OllamaGenerateRequest]
) -> Response[OllamaTextPiece]:
    """Continue a prompt, or write what belongs between `prompt` and `suffix`."""
    if not data.prompt and not data.suffix:
        return await _asked_for_model(request, data, _text)
    served = await serving(request, data.model, keep_seconds=keep_seconds(data.keep_alive))
    _refuse(served, data)
    _refuse_generate(data)
    size = len(data.prompt or "") + len(data.suffix or "") + len(data.system or "")
    prompt = await off_loop(size, lambda: _read_prompt(served, data))
    token_ids = prompt.token_ids
    fim = bool(data.suffix) or served.is_fim(token_ids)
    constraint = await constraint_of(served, _form(data), Choice(tools=[]), token_ids)
    name = request_id(request.scope)
    generation = _start(
        served,
        data,
        token_ids,
        name,
        fim=fim,
        constraint=constraint,
        begins_with=prompt.begins_with,
        stop=prompt.stop,
    )
    reader = AnswerReader(None, None if _is_plain(served, data) else thinking_of(served, token_ids))
    return await respond(request, served, generation, _text, stream=data.stream, reader=reader)


router = Router(
    path="/",
    route_handlers=[
        chat,
        generate,
        embeddings.ollama_embed,
        embeddings.ollama_old_embedding,
        ollama_models.version,
        ollama_models.tags,
        ollama_models.running,
        ollama_models.show,
    ],
    exception_handlers=HANDLERS,
)


async def _asked_for_model(
    request: Request[Any, Any, Any], data: OllamaRequest, shape: Shape
) -> Response[Any]:
    """Answer a request without a prompt: the model is loaded, or goes when it says so."""
    house = house_of(request)
    keep = keep_seconds(data.keep_alive)
    if keep == 0 and not house.residents.is_fixed:
        found = find(house, data.model)
        house.residents.drop(found.spec.name)
        served = await asyncio.to_thread(house.shown, found)
        return loaded(served, shape, stream=data.stream, reason="unload")
    served = await serving(request, data.model, keep_seconds=keep)
    return loaded(served, shape, stream=data.stream, reason="load")


def _start(
    served: Served,
    data: OllamaRequest,
    token_ids: list[int],
    name: str,
    *,
    fim: bool,
    constraint: Constraint | None,
    begins_with: str = "",
    stop: tuple[str, ...] = (),
) -> Generation:
    """Check and submit; every refusal happens before any header."""
    limits = served.settings.limits
    options = data.options or OllamaOptions()
    asked_for = options.num_predict
    limit = None if asked_for is None or asked_for < 0 else asked_for
    top = (data.top_logprobs or 0) if data.logprobs else None
    asking = GenerationRequest(
        prompt_token_ids=token_ids,
        sampling=to_params(options, served, logprobs=top),
        stop=asked.stop_strings(options.stop, limits) + stop,
        max_tokens=limit,
        priority=asked.priority(limit, None, fim=fim),
        request_id=name,
        constraint=constraint,
        begins_with=begins_with,
    )
    [generation] = submit(served, [asking])
    return generation


def _form(data: OllamaRequest) -> Form | None:
    """Return what `format` asks for: "json" is any object, otherwise it is a schema."""
    if not data.format:
        return None
    if isinstance(data.format, dict):
        return from_schema(data.format, "format")
    if data.format != "json":
        raise InvalidRequestError(
            f"format is {data.format!r}; it must be 'json' or a JSON schema", param="format"
        )
    return from_schema(ANY_OBJECT, "format")


def _read_chat(served: Served, data: OllamaChatRequest) -> list[int]:
    messages = for_template(ollama_history.plain(data.messages or []))
    completed = history.complete(messages, served.chat_template())
    return _render(served, data, completed, tools=data.tools)


def _read_prompt(served: Served, data: OllamaGenerateRequest) -> Prompt:
    text = data.prompt or ""
    if data.suffix:
        return fim_prompt(served, text, data.suffix)
    if _is_plain(served, data):
        return Prompt(text=text, token_ids=served.tokenize_rendered(text))
    system = [{"role": "system", "content": data.system}] if data.system else []
    messages = [*system, {"role": "user", "content": text}]
    return Prompt(text=text, token_ids=_render(served, data, messages))


def _is_plain(served: Served, data: OllamaGenerateRequest) -> bool:
    """Return whether the prompt is text to continue rather than a turn of a conversation."""
    return bool(data.raw or data.suffix or (served.template is None and not data.system))


def _render(
    served: Served,
    data: OllamaRequest,
    messages: Sequence[dict[str, Any]],
    *,
    tools: list[dict[str, Any]] | None = None,
) -> list[int]:
    template = served.chat_template()
    variables = _variables(data.think)
    prompt = prefill.render(template, messages, tools=tools, variables=variables)
    return served.tokenize_rendered(prompt)


def _variables(think: bool | str | None) -> dict[str, Any]:
    """Return what tells a template whether to think, and how hard ("low", "medium", "high")."""
    if think is None:
        return {}
    effort = {"reasoning_effort": think} if isinstance(think, str) else {}
    return {"enable_thinking": bool(think)} | effort


def _refuse(served: Served, data: OllamaRequest) -> None:
    """Refuse what a client would rely on and not get."""
    if data.think and not thinks(served):
        raise InvalidRequestError(f"{served.model_id} does not support thinking")


def _refuse_chat(served: Served, data: OllamaChatRequest) -> None:
    messages = data.messages or []
    limit = served.settings.limits.messages
    if len(messages) > limit:
        raise InvalidRequestError(
            f"messages holds {len(messages)} entries; it must be {limit} at most"
        )
    _refuse_images(*(each.images for each in messages))
    check_tools(data.tools or [])
    if data.tools and not (served.capabilities and served.capabilities.supports_tools):
        raise InvalidRequestError(
            f"{served.model_id} does not support tools; serve it with --set tools.generic=true"
        )


def _refuse_generate(data: OllamaGenerateRequest) -> None:
    _refuse_images(data.images)
    if data.template:
        raise InvalidRequestError(
            "template is not supported: the model's own is used; render the prompt yourself and "
            "send it with raw"
        )
    if data.context:
        raise InvalidRequestError("context is not supported; send the conversation to /api/chat")
    if data.raw and data.system:
        raise InvalidRequestError("raw prompts are read as they stand; put the system text into it")


def _refuse_images(*images: list[Any] | None) -> None:
    if any(images):
        raise InvalidRequestError("images are not supported: this model reads text only")


def _turn(read: Sequence[Piece], /, **fields: Any) -> OllamaPiece:
    wanted = [_call(call) for call in calls_of(read)] or msgspec.UNSET
    thoughts = thoughts_of(read) or msgspec.UNSET
    turn = OllamaTurn(content=content_of(read), thinking=thoughts, tool_calls=wanted)
    return OllamaChatPiece(message=turn, **fields)


def _call(call: PlacedCall) -> OllamaToolCall:
    arguments = msgspec.json.decode(call.arguments)
    function = OllamaCalledFunction(index=call.index, name=call.name, arguments=arguments)
    return OllamaToolCall(id=call.id, function=function)


def _text(read: Sequence[Piece], /, **fields: Any) -> OllamaPiece:
    thoughts = thoughts_of(read) or msgspec.UNSET
    return OllamaTextPiece(response=content_of(read), thinking=thoughts, **fields)
