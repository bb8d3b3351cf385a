"""POST /v1/completions: OpenAI's text dialect, fill-in-the-middle included (`suffix`)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.params import JSONBody

from serve.api import asked
from serve.api.access import request_id
from serve.api.completion_answer import Echo, Job, chunks, completion
from serve.api.completion_schemas import Completion, CompletionRequest
from serve.api.constraints import constrain
from serve.api.disconnect import unless_disconnected
from serve.api.errors import InvalidRequestError
from serve.api.generation import collect_all, copies, submit
from serve.api.off_loop import off_loop
from serve.api.prediction import read_drafting
from serve.api.progress import is_watched, watch
from serve.api.prompts import Prompt, read_prompts
from serve.api.sampling import to_params
from serve.api.served import Served, serving
from serve.api.sse import EVENTS, EventStream
from serve.engine.request import GenerationRequest, Priority

DEFAULT_MAX_TOKENS = 16
"""OpenAI's own default, which clients of this dialect count on: nothing in a plain prompt makes a
model stop."""


@post(["/v1/completions", "/completions"], status_code=200, streams=(EVENTS, Completion))
async def completions(
    request: Request[Any, Any, Any], data: JSONBody[CompletionRequest]
) -> Response[Completion]:
    """Continue one or more prompts, at once or as a stream of events."""
    served = await serving(request, data.model)
    job = await start(served, data, request_id(request.scope))
    if data.stream:
        options = data.stream_options
        counts = options is not None and bool(options.include_usage)
        return EventStream(chunks(served, job, include_usage=counts), job.generations)
    outcomes = await unless_disconnected(request, collect_all(job.generations))
    shown = _alternatives(data) is not None
    return Response(completion(served, job, outcomes, shows_logprobs=shown))


async def start(served: Served, data: CompletionRequest, name: str) -> Job:
    """Check, tokenize and submit; every refusal happens here, before any header."""
    limits = served.settings.limits
    _refuse(data)
    n = asked.choices(data.n, limits)
    width = n if data.best_of is None else asked.choices(data.best_of, limits)
    size = len(str(data.prompt)) + len(data.suffix or "")
    is_scored = _scored(data) is not None
    read = partial(
        read_prompts, served, data.prompt, suffix=data.suffix, lora=data.lora, anew=is_scored
    )
    prompts = await off_loop(size, read)
    _refuse_scores(data, prompts, width, limits.prompt_logprobs)
    drafting = await read_drafting(served, data)
    limit = asked.max_tokens(data.max_tokens, data.n_predict, default=DEFAULT_MAX_TOKENS)
    first = GenerationRequest(
        prompt_token_ids=(),
        sampling=to_params(data, served, logprobs=_reported(data)),
        stop=asked.stop_strings(data.stop, limits),
        max_tokens=limit,
        ignore_eos=bool(data.ignore_eos),
        request_id=name,
        prediction_token_ids=drafting.prediction_token_ids,
        drafts=drafting.drafts,
        constraint=await constrain(served, data),
        prompt_logprobs=_scored(data),
        from_cache=data.cache_prompt is not False,
        reports_progress=is_watched(data, stream=data.stream),
    )
    requests = [_request(served, data, first, prompt) for prompt in prompts]
    generations = submit(
        served, [each for one in requests for each in copies(one, width)], data.lora
    )
    echoes = [_echo(served, data, prompt) for prompt in prompts for _ in range(width)]
    return Job(generations=generations, width=width, n=n, echoes=echoes, watch=watch(data))


def _request(
    served: Served, data: CompletionRequest, first: GenerationRequest, prompt: Prompt
) -> GenerationRequest:
    fim = bool(data.suffix) or served.is_fim(prompt.token_ids)
    level = asked.priority(first.max_tokens, data.service_tier, fim=fim)
    if first.prompt_logprobs is not None:
        level = Priority.BACKGROUND  # texts that are scored come by the thousand
    return msgspec.structs.replace(
        first,
        prompt_token_ids=prompt.token_ids,
        begins_with=prompt.begins_with,
        stop=first.stop + prompt.stop,
        priority=level,
    )


def _echo(served: Served, data: CompletionRequest, prompt: Prompt) -> Echo:
    if not data.echo:
        return Echo()
    is_scored = _scored(data) is not None
    first_token = served.engine.token_bytes(prompt.token_ids[0]) if is_scored else None
    return Echo(text=prompt.text, first_token=first_token)


def _scored(data: CompletionRequest) -> int | None:
    """Return how many alternatives a token of the prompt gets, None for no logprobs of it."""
    return _alternatives(data) if data.echo else None


def _alternatives(data: CompletionRequest) -> int | None:
    """Return how many alternatives a token gets; some clients send false for none."""
    return None if data.logprobs is None or data.logprobs is False else int(data.logprobs)


def _reported(data: CompletionRequest) -> int | None:
    """Return the same for the engine: who chooses among answers needs their probabilities."""
    asked_for = _alternatives(data)
    chooses = (data.best_of or 0) > (data.n or 1)
    return 0 if asked_for is None and chooses else asked_for


def _refuse(data: CompletionRequest) -> None:
    n = data.n or 1
    if data.best_of is not None and (data.best_of < n or (data.stream and data.best_of > n)):
        raise InvalidRequestError(
            f"best_of is {data.best_of}; it must be at least n, which is {n}, and a stream cannot "
            "wait to choose",
            param="best_of",
        )
    if data.suffix and _scored(data) is not None:
        raise InvalidRequestError(
            "echo with logprobs scores a text, and a suffix asks for what is missing in one; send "
            "one of them",
            param="echo",
        )


def _refuse_scores(
    data: CompletionRequest, prompts: Sequence[Prompt], width: int, limit: int
) -> None:
    """Refuse more values than may wait in memory for the answer."""
    num_top = _scored(data)
    if num_top is None:
        return
    num_tokens = sum(len(prompt.token_ids) for prompt in prompts) * width
    num_values = num_tokens * (1 + num_top)
    if num_values > limit:
        raise InvalidRequestError(
            f"echo with logprobs {num_top} of {num_tokens} prompt tokens makes {num_values} "
            f"values, the limit is {limit} (limits.prompt_logprobs); send fewer prompts at once, "
            "or ask for fewer alternatives",
            param="logprobs",
        )
