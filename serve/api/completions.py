"""POST /v1/completions: OpenAI's text dialect, fill-in-the-middle included (`suffix`)."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.params import JSONBody

from serve.api import asked, logprobs
from serve.api.access import request_id
from serve.api.completion_schemas import Completion, CompletionChoice, CompletionRequest
from serve.api.constraints import constrain
from serve.api.disconnect import unless_disconnected
from serve.api.errors import InvalidRequestError
from serve.api.generation import Outcome, collect_all, copies, merged, submit
from serve.api.prediction import read_drafting
from serve.api.prompts import Prompt, read_prompts
from serve.api.sampling import to_params
from serve.api.served import Served, off_loop, serving
from serve.api.sse import EVENTS, EventStream
from serve.api.usage import timings, usage
from serve.engine.engine import Generation
from serve.engine.request import Finished, GenerationRequest

DEFAULT_MAX_TOKENS = 16
"""OpenAI's own default, which clients of this dialect count on: nothing in a plain prompt makes a
model stop."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What was submitted: `width` generations for each prompt, in order, and the text to echo.

    Of each prompt's answers the best `n` are given.
    """

    generations: list[Generation]
    width: int
    n: int
    echoes: list[str]


@post(["/v1/completions", "/completions"], status_code=200, streams=(EVENTS, Completion))
async def completions(
    request: Request[Any, Any, Any], data: JSONBody[CompletionRequest]
) -> Response[Completion]:
    """Continue one or more prompts, at once or as a stream of events."""
    served = await serving(request, data.model)
    job = await start(served, data, request_id(request.scope))
    if data.stream:
        return EventStream(_chunks(served, data, job), job.generations)
    outcomes = await unless_disconnected(request, collect_all(job.generations))
    return Response(_completion(served, data, job, outcomes))


async def start(served: Served, data: CompletionRequest, name: str) -> Job:
    """Check, tokenize and submit; every refusal happens here, before any header."""
    limits = served.settings.limits
    _refuse(data)
    n = asked.choices(data.n, limits)
    width = n if data.best_of is None else asked.choices(data.best_of, limits)
    size = len(str(data.prompt)) + len(data.suffix or "")
    read = partial(read_prompts, served, data.prompt, suffix=data.suffix)
    prompts = await off_loop(size, read)
    drafting = await read_drafting(served, data)
    limit = asked.max_tokens(data.max_tokens, data.n_predict, default=DEFAULT_MAX_TOKENS)
    first = GenerationRequest(
        prompt_token_ids=(),
        sampling=to_params(data, served.sampling, limits, logprobs=_reported(data)),
        stop=asked.stop_strings(data.stop, limits),
        max_tokens=limit,
        ignore_eos=bool(data.ignore_eos),
        request_id=name,
        prediction_token_ids=drafting.prediction_token_ids,
        drafts=drafting.drafts,
        constraint=await constrain(served, data),
    )
    requests = [_request(served, data, first, prompt) for prompt in prompts]
    generations = submit(
        served, [each for one in requests for each in copies(one, width)], data.lora
    )
    echoes = [prompt.text if data.echo else "" for prompt in prompts for _ in range(width)]
    return Job(generations=generations, width=width, n=n, echoes=echoes)


def _request(
    served: Served, data: CompletionRequest, first: GenerationRequest, prompt: Prompt
) -> GenerationRequest:
    fim = bool(data.suffix) or served.is_fim(prompt.token_ids)
    level = asked.priority(first.max_tokens, data.service_tier, fim=fim)
    return msgspec.structs.replace(
        first,
        prompt_token_ids=prompt.token_ids,
        begins_with=prompt.begins_with,
        stop=first.stop + prompt.stop,
        priority=level,
    )


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
    if data.echo and _alternatives(data) is not None:
        raise InvalidRequestError(
            "echo with logprobs is not supported: prompt tokens are read without logits",
            param="echo",
        )


def _completion(
    served: Served, data: CompletionRequest, job: Job, outcomes: Sequence[Outcome]
) -> Completion:
    finished = [outcome.finished for outcome in outcomes]
    shown = _alternatives(data) is not None
    return Completion(
        id=_new_id(),
        created=int(time.time()),
        model=served.model_id,
        choices=[
            CompletionChoice(
                index=index,
                text=echo + outcome.text,
                finish_reason=outcome.finished.reason.value,
                logprobs=logprobs.for_completion(outcome.logprobs, len(echo)) if shown else None,
            )
            for index, (echo, outcome) in enumerate(_best(job, outcomes))
        ],
        usage=usage(finished, num_choices=job.width),
        timings=timings(finished[0]),
        system_fingerprint=served.fingerprint,
    )


def _best(job: Job, outcomes: Sequence[Outcome]) -> list[tuple[str, Outcome]]:
    """Return echo and answer of each prompt's best, the most probable per token first."""
    pairs = list(zip(job.echoes, outcomes, strict=True))
    if job.width == job.n:
        return pairs
    groups = [pairs[start : start + job.width] for start in range(0, len(pairs), job.width)]
    return [
        pair
        for group in groups
        for pair in sorted(group, key=lambda each: _mean_logprob(each[1]), reverse=True)[: job.n]
    ]


def _mean_logprob(outcome: Outcome) -> float:
    return sum(each.logprob for each in outcome.logprobs) / max(len(outcome.logprobs), 1)


async def _chunks(
    served: Served, data: CompletionRequest, job: Job
) -> AsyncGenerator[Completion | None, None]:
    """Yield echoes, then text as it comes, then reasons and, if asked for, the usage."""
    chunk = partial(
        Completion,
        id=_new_id(),
        created=int(time.time()),
        model=served.model_id,
        system_fingerprint=served.fingerprint,
    )
    for index, echo in enumerate(job.echoes):
        if echo:
            yield chunk(choices=[CompletionChoice(index=index, text=echo)])
    offsets = [len(echo) for echo in job.echoes]
    finished: dict[int, Finished] = {}
    events = merged(job.generations, ping_seconds=served.settings.server.ping_seconds)
    async with aclosing(events):
        async for item in events:
            if item is None:
                yield None
                continue
            index, event = item
            if isinstance(event, Finished):
                finished[index] = event
                end = CompletionChoice(index=index, text="", finish_reason=event.reason.value)
                yield chunk(choices=[end], timings=timings(event))
            elif event.text or event.logprobs:
                marks = logprobs.for_completion(event.logprobs, offsets[index])
                offsets[index] += len(event.text)
                piece = CompletionChoice(index=index, text=event.text, logprobs=marks)
                yield chunk(choices=[piece])
    if data.stream_options is not None and data.stream_options.include_usage:
        ended = [finished[index] for index in sorted(finished)]
        yield chunk(choices=[], usage=usage(ended, num_choices=job.width))


def _new_id() -> str:
    return f"cmpl-{secrets.token_hex(12)}"
