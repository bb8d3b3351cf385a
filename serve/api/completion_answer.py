"""Shape what the engine generates as a text completion, whole or in chunks.

Knows nothing of how the prompts came about.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from serve.api import logprobs
from serve.api.completion_schemas import Completion, CompletionChoice, CompletionLogprobs
from serve.api.generation import Outcome, merged
from serve.api.progress import Watch
from serve.api.served import Served
from serve.api.usage import timings, usage
from serve.engine.engine import Generation
from serve.engine.request import Finished


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before an answer. `first_token` is the prompt's, where its logprobs are shown."""

    text: str = ""
    first_token: bytes | None = None

    def opening(self) -> CompletionLogprobs | None:
        """Return the entry of the first token."""
        return None if self.first_token is None else logprobs.unforeseen(self.first_token)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What was submitted: `width` generations for each prompt, in order, and what to echo.

    Of each prompt's answers the best `n` are given.
    """

    generations: list[Generation]
    width: int
    n: int
    echoes: list[Echo]
    watch: Watch = Watch()


def completion(
    served: Served, job: Job, outcomes: Sequence[Outcome], *, shows_logprobs: bool
) -> Completion:
    """Return the body of whole answers."""
    finished = [outcome.finished for outcome in outcomes]
    return Completion(
        id=_new_id(),
        created=int(time.time()),
        model=served.model_id,
        choices=[
            CompletionChoice(
                index=index,
                text=echo.text + outcome.text,
                finish_reason=outcome.finished.reason.value,
                logprobs=_marks(echo, outcome) if shows_logprobs else None,
            )
            for index, (echo, outcome) in enumerate(_best(job, outcomes))
        ],
        usage=usage(finished, num_choices=job.width),
        timings=timings(finished[0]),
        system_fingerprint=served.fingerprint,
    )


def _marks(echo: Echo, outcome: Outcome) -> CompletionLogprobs | None:
    return logprobs.joined(
        echo.opening(),
        logprobs.for_prompt(outcome.prompt_logprobs, len(echo.text)),
        logprobs.for_completion(outcome.logprobs, len(echo.text)),
    )


def _best(job: Job, outcomes: Sequence[Outcome]) -> list[tuple[Echo, Outcome]]:
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


async def chunks(
    served: Served, job: Job, *, include_usage: bool
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
        if echo.text or echo.first_token is not None:
            opening = CompletionChoice(index=index, text=echo.text, logprobs=echo.opening())
            yield chunk(choices=[opening])
    offsets = [len(echo.text) for echo in job.echoes]
    finished: dict[int, Finished] = {}
    events = merged(job.generations, ping_seconds=served.settings.server.ping_seconds)
    async with aclosing(events):
        async for item in events:
            if item is None:
                yield None
                continue
            index, event = item
            progress, times = job.watch.of_prompt(event), job.watch.of_times(event)
            if progress is not None:
                silent = CompletionChoice(index=index, text="")
                yield chunk(choices=[silent], prompt_progress=progress, timings=times)
            elif isinstance(event, Finished):
                finished[index] = event
                end = CompletionChoice(index=index, text="", finish_reason=event.reason.value)
                yield chunk(choices=[end], timings=timings(event))
            elif event.text or event.logprobs or event.prompt_logprobs:
                marks = logprobs.joined(
                    logprobs.for_prompt(event.prompt_logprobs, offsets[index]),
                    logprobs.for_completion(event.logprobs, offsets[index]),
                )
                offsets[index] += len(event.text)
                piece = CompletionChoice(index=index, text=event.text, logprobs=marks)
                yield chunk(choices=[piece], timings=times)
    if include_usage:
        ended = [finished[index] for index in sorted(finished)]
        counted = usage(ended, num_choices=job.width)
        yield chunk(choices=[], usage=counted, timings=timings(ended[0]))


def _new_id() -> str:
    return f"cmpl-{secrets.token_hex(12)}"
