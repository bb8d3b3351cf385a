"""POST /v1/fim/completions: text around a cursor in, a chat-shaped answer out.

The FIM dialect of hosted code models; Continue speaks it.
"""

from typing import Any

from litestar import Request, Response, post
from litestar.params import JSONBody

from serve.api import asked
from serve.api.access import request_id
from serve.api.adapters import LoraChoice
from serve.api.chat_answer import respond
from serve.api.chat_schemas import ChatChunk, ChatCompletion, StreamOptions
from serve.api.generation import submit
from serve.api.off_loop import off_loop
from serve.api.prompts import fim_prompt
from serve.api.sampling import Sampling, to_params
from serve.api.served import serving
from serve.api.sse import EVENTS
from serve.engine.request import GenerationRequest, Priority


class FimRequest(Sampling, kw_only=True):
    """Text before (`prompt`) and after (`suffix`) the cursor."""

    prompt: str
    suffix: str | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    lora: list[LoraChoice] | None = None


@post(["/v1/fim/completions", "/fim/completions"], status_code=200, streams=(EVENTS, ChatChunk))
async def fim_completions(
    request: Request[Any, Any, Any], data: JSONBody[FimRequest]
) -> Response[ChatCompletion]:
    """Write what belongs between two pieces of text."""
    served = await serving(request, data.model)
    limits = served.settings.limits
    before, after = data.prompt, data.suffix or ""
    size = len(before) + len(after)
    prompt = await off_loop(size, lambda: fim_prompt(served, before, after))
    asking = GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        begins_with=prompt.begins_with,
        sampling=to_params(data, served),
        stop=asked.stop_strings(data.stop, limits) + prompt.stop,
        max_tokens=asked.max_tokens(data.max_tokens),
        priority=Priority.FIM,
        request_id=request_id(request.scope),
    )
    generations = submit(served, [asking], data.lora)
    return await respond(
        request, served, generations, stream=data.stream, stream_options=data.stream_options
    )
