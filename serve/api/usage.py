"""Token counts and times of an answer, as OpenAI's `usage` and llama.cpp's `timings`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.request import Finished, Progress


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Prompt tokens that were already in the KV cache."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """What the answer is made of.

    `reasoning_tokens` are not part of the visible text. Of the request's prediction the answer
    took up `accepted_prediction_tokens` and left out `rejected_prediction_tokens`.
    """

    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over all choices of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class TimingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds and rates; `prompt_n` leaves out the `cache_n` tokens not read again.

    The first token comes with the end of the prompt, so `predicted_ms` and the rates are of the
    `predicted_n` - 1 after it; 0 where there are none.
    `draft_n` tokens were computed as guesses and `draft_n_accepted` of them came true.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: int
    draft_n_accepted: int


def usage(
    finished: Sequence[Finished], *, num_choices: int = 1, num_thought_tokens: int = 0
) -> Usage:
    """Count each prompt once: its `num_choices` answers stand next to each other."""
    prompts = finished[::num_choices]
    num_prompt = sum(each.num_prompt_tokens for each in prompts)
    num_completion = sum(each.num_completion_tokens for each in finished)
    num_cached = sum(each.num_cached_tokens for each in prompts)
    return Usage(
        prompt_tokens=num_prompt,
        completion_tokens=num_completion,
        total_tokens=num_prompt + num_completion,
        prompt_tokens_details=PromptTokensDetails(num_cached),
        completion_tokens_details=CompletionTokensDetails(
            num_thought_tokens,
            sum(each.num_predicted_tokens for each in finished),
            sum(each.num_unpredicted_tokens for each in finished),
        ),
    )


def timings(finished: Finished | Progress) -> TimingsBody:
    """Return one sequence's times, at its end or as they stand."""
    num_read = finished.num_read_tokens
    num_steps = max(finished.num_completion_tokens - 1, 0)
    prompt, predicted = finished.timings.prompt_seconds, finished.timings.predicted_seconds
    return TimingsBody(
        cache_n=finished.num_cached_tokens,
        prompt_n=num_read,
        prompt_ms=prompt * 1000,
        prompt_per_token_ms=_ratio(prompt * 1000, num_read),
        prompt_per_second=_ratio(num_read, prompt),
        predicted_n=finished.num_completion_tokens,
        predicted_ms=predicted * 1000,
        predicted_per_token_ms=_ratio(predicted * 1000, num_steps),
        predicted_per_second=_ratio(num_steps, predicted),
        draft_n=finished.num_draft_tokens,
        draft_n_accepted=finished.num_accepted_tokens,
    )


def _ratio(value: float, by: float) -> float:
    return value / by if by else 0.0
