"""POST /completion and /infill: llama.cpp's own dialect, which llama.vim and others speak."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.params import JSONBody
from msgspec import UNSET

from serve.api import asked
from serve.api.access import request_id
from serve.api.adapters import mix_of
from serve.api.constraints import constrain
from serve.api.cutoff import BoundedAnswer, Cutoff
from serve.api.disconnect import unless_disconnected
from serve.api.generation import Outcome, collect_all, copies, merged, submit
from serve.api.native_probabilities import probabilities
from serve.api.native_prompts import read_native_prompts
from serve.api.native_schemas import (
    AnswerSettings,
    InfillRequest,
    NativeCompletion,
    NativeCompletionRequest,
    NativePiece,
    NativeRequest,
    TokenBias,
)
from serve.api.off_loop import off_loop
from serve.api.prediction import read_drafting
from serve.api.progress import is_watched, watch
from serve.api.prompts import instructed, instructs
from serve.api.response_fields import pick
from serve.api.sampling import NEVER, only, to_params
from serve.api.served import Served, serving
from serve.api.sse import EVENTS, EventStream
from serve.api.usage import timings
from serve.chat.anchors import Gap
from serve.chat.fim import FimPrompt
from serve.engine.request import Finished, FinishReason, GenerationRequest

NativeAnswer = NativeCompletion | list[NativeCompletion] | dict[str, Any]
"""A list where several answers were asked for, an object of single fields where these were."""

_ANSWER_SHARE = 4
"""One part in so many of the context is kept for the answer when an infill sets no limit."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request and what it asks of the engine: `n_cmpl` answers to each prompt in turn."""

    served: Served
    data: NativeRequest
    prompts: Sequence[FimPrompt]
    requests: Sequence[GenerationRequest]


@post("/completion", status_code=200, streams=(EVENTS, NativePiece, NativeCompletion))
async def completion(
    request: Request[Any, Any, Any], data: JSONBody[NativeCompletionRequest]
) -> Response[NativeAnswer]:
    """Continue a prompt."""
    served = await serving(request, data.model)
    size = len(str(data.prompt))
    prompts = await off_loop(size, lambda: read_native_prompts(served, data.prompt))
    fim = any(served.is_fim(prompt.token_ids) for prompt in prompts)
    return await _answer(request, served, data, prompts, fim=fim)


@post("/infill", status_code=200, streams=(EVENTS, NativePiece, NativeCompletion))
async def infill(
    request: Request[Any, Any, Any], data: JSONBody[InfillRequest]
) -> Response[NativeAnswer]:
    """Write what belongs at the cursor."""
    served = await serving(request, data.model)
    prompt = await _lay_out(served, data)
    return await _answer(request, served, data, [prompt], fim=True)


async def _answer(
    request: Request[Any, Any, Any],
    served: Served,
    data: NativeRequest,
    prompts: Sequence[FimPrompt],
    *,
    fim: bool,
) -> Response[Any]:
    """Answer `n_cmpl` times to each prompt; every refusal happens before any header."""
    requests = await _requests(request, served, data, prompts, fim=fim)
    asking = Asking(served=served, data=data, prompts=prompts, requests=requests)
    answers = _start(asking)
    if data.stream:
        return EventStream(_chunks(asking, answers), answers, done=b"")
    outcomes = await unless_disconnected(request, collect_all(answers))
    bodies = [
        pick(_completion(asking, index, outcome), data.response_fields)
        for index, outcome in enumerate(outcomes)
    ]
    return Response(bodies[0] if len(bodies) == 1 else bodies)


async def _requests(
    request: Request[Any, Any, Any],
    served: Served,
    data: NativeRequest,
    prompts: Sequence[FimPrompt],
    *,
    fim: bool,
) -> list[GenerationRequest]:
    """Return what is asked of the engine, the answers to one prompt beside each other."""
    limits = served.settings.limits
    n = asked.choices(data.n_cmpl, limits)
    limit = asked.max_tokens(data.n_predict)
    sampling = msgspec.structs.replace(
        to_params(data, served, logprobs=data.n_probs or None),
        post_sampling=bool(data.post_sampling_probs),
    )
    drafting = await read_drafting(served, data)
    constraint = await constrain(served, data)
    stops = asked.stop_strings(data.stop, limits)
    found: list[GenerationRequest] = []
    for prompt in prompts:
        first = GenerationRequest(
            prompt_token_ids=prompt.token_ids,
            begins_with=prompt.begins_with,
            sampling=only(sampling, data.samplers) if data.samplers else sampling,
            stop=stops + prompt.stop,
            max_tokens=limit,
            priority=asked.priority(limit, None, fim=fim),
            ignore_eos=bool(data.ignore_eos),
            request_id=request_id(request.scope),
            prediction_token_ids=drafting.prediction_token_ids,
            drafts=drafting.drafts,
            constraint=constraint,
            from_cache=data.cache_prompt is not False,
            reports_progress=is_watched(data, stream=data.stream),
        )
        found += copies(first, n)
    return found


def _start(asking: Asking) -> list[BoundedAnswer]:
    data = asking.data
    seconds = data.t_max_predict_ms / 1000 if data.t_max_predict_ms > 0 else None
    cutoff = Cutoff(n_indent=data.n_indent, seconds=seconds)
    running = submit(asking.served, asking.requests, data.lora)
    return [BoundedAnswer(each, cutoff) for each in running]


async def _lay_out(served: Served, data: InfillRequest) -> FimPrompt:
    """Return the prompt; a warm-up has no wish, since nobody waits for it."""
    context = served.engine.model_info.context_length
    limit = asked.max_tokens(data.n_predict)
    share = context // _ANSWER_SHARE
    room = context - (share if limit is None else min(max(limit, 1), share))
    if instructs(served):
        before, after = data.input_prefix + data.prompt, data.input_suffix
        size = len(before) + len(after)
        return await off_loop(size, lambda: instructed(served, before, after, max_tokens=room))
    gap = Gap(
        before=data.input_prefix + data.prompt,
        after=data.input_suffix,
        extra=tuple(data.input_extra or ()),
    )
    return await served.gaps.lay_out(
        gap,
        max_tokens=room,
        prompt_ms=None if limit == 0 else data.t_max_prompt_ms or None,
        has_wish=limit != 0,
        adapters=mix_of(served, data.lora),
    )


def _completion(asking: Asking, index: int, outcome: Outcome) -> NativeCompletion:
    served, data, finished = asking.served, asking.data, outcome.finished
    request = asking.requests[index]
    prompt = asking.prompts[index * len(asking.prompts) // len(asking.requests)]
    drawn = request.sampling.post_sampling
    wants_prompt = "prompt" in (data.response_fields or ())
    return NativeCompletion(
        index=index,
        content=outcome.text,
        tokens=outcome.token_ids if data.return_tokens else [],
        model=served.model_id,
        tokens_predicted=finished.num_completion_tokens,
        tokens_evaluated=finished.num_prompt_tokens,
        tokens_cached=finished.num_prompt_tokens + finished.num_completion_tokens,
        has_new_line="\n" in outcome.text,
        truncated=prompt.is_cut or _fills(served, finished),
        stop_type=_stop_type(finished),
        stopping_word=finished.stop_text or "",
        timings=timings(finished),
        generation_settings=_settings(served, request, stream=bool(data.stream)),
        prompt=served.engine.detokenize(request.prompt_token_ids) if wants_prompt else UNSET,
        completion_probabilities=probabilities(outcome.logprobs, drawn=drawn),
    )


def _settings(served: Served, request: GenerationRequest, *, stream: bool) -> AnswerSettings:
    n_predict = -1 if request.max_tokens is None else request.max_tokens
    chosen = msgspec.structs.asdict(request.sampling)
    biases = dict(chosen.pop("logit_bias"))
    if request.ignore_eos:
        biases |= dict.fromkeys(sorted(served.engine.model_info.eog_token_ids), NEVER)
    return AnswerSettings(
        n_probs=chosen.pop("logprobs") or 0,
        post_sampling_probs=chosen.pop("post_sampling"),
        **chosen,
        logit_bias=[
            TokenBias(token=token_id, bias=None if bias == NEVER else bias)
            for token_id, bias in biases.items()
        ],
        n_predict=n_predict,
        ignore_eos=request.ignore_eos,
        stop=request.stop,
        stream=stream,
    )


async def _chunks(
    asking: Asking, answers: Sequence[BoundedAnswer]
) -> AsyncGenerator[NativePiece | NativeCompletion | None, None]:
    watching, drawn = watch(asking.data), bool(asking.data.post_sampling_probs)
    events = merged(answers, ping_seconds=asking.served.settings.server.ping_seconds)
    async with aclosing(events):
        async for item in events:
            if item is None:
                yield None
                continue
            index, event = item
            progress, times = watching.of_prompt(event), watching.of_times(event)
            if progress is not None:
                yield NativePiece(
                    index=index, content="", tokens=[], prompt_progress=progress, timings=times
                )
            elif isinstance(event, Finished):
                rest = Outcome(text="", token_ids=[], logprobs=[], finished=event)
                yield _completion(asking, index, rest)
            elif event.text or event.logprobs:
                yield NativePiece(
                    index=index,
                    content=event.text,
                    tokens=list(event.token_ids),
                    completion_probabilities=probabilities(event.logprobs, drawn=drawn),
                    timings=times,
                )


def _fills(served: Served, finished: Finished) -> bool:
    num_tokens = finished.num_prompt_tokens + finished.num_completion_tokens
    is_cut = finished.reason is FinishReason.LENGTH
    return is_cut and num_tokens >= served.engine.model_info.context_length


def _stop_type(finished: Finished) -> str:
    if finished.reason is FinishReason.LENGTH:
        return "limit"
    return "word" if finished.stop_text else "eos"
