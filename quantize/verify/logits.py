"""Parity of numbers: logits and greedy continuations of two runtimes on the same tokens.

Two exact runtimes still round differently, so a greedy difference only counts where the first
runtime's leading logits are further apart than a stated tie gap.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from quantize.config import VerifyConfig
from quantize.examples import ScoredText
from quantize.llama.session import LlamaSession
from quantize.perplexity import Model, Reference, score
from quantize.verify.result import Check

Prompts = Sequence[Sequence[int]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a GGUF says greedily after a prompt."""

    prompt: Sequence[int]
    token_ids: Sequence[int]
    """A stop token included."""
    gaps: Sequence[float]
    """Distance of the leading two logits before each token."""
    logits: Any
    """After the prompt, (n_vocab,) float32."""


def read_answers(session: LlamaSession, prompts: Prompts, count: int) -> list[Answer]:
    """Return up to `count` greedy tokens after each prompt."""
    answers = []
    for prompt in prompts:
        session.reset()
        logits = session.last_logits(prompt)
        token_ids, gaps = greedy_with_gaps(session, prompt, count)
        answers.append(Answer(prompt=prompt, token_ids=token_ids, gaps=gaps, logits=logits))
    return answers


def compare_logits(
    hop: str,
    session: LlamaSession,
    texts: Sequence[ScoredText],
    reference: Reference,
    config: VerifyConfig,
) -> Check:
    """Compare next-token distributions with the reference's, teacher-forced on text."""
    quality = score(session, texts, reference)
    agreement, kld = quality.top1_agreement or 0.0, quality.mean_kld_nats or 0.0
    passed = agreement >= config.min_top1_agreement and kld <= config.max_mean_kld_nats
    detail = (
        f"top-1 agreement {agreement:.1%} (at least {config.min_top1_agreement:.1%}), mean KLD "
        f"{kld:.2g} nats (at most {config.max_mean_kld_nats:g}) over "
        f"{quality.num_scored_tokens} tokens"
    )
    figures = {"verify_f16_top1_agreement": agreement, "verify_f16_mean_kld_nats": kld}
    return Check(hop=hop, name="logits", passed=passed, detail=detail, figures=figures)


def compare_greedy(
    hop: str, model: Model, answers: Sequence[Answer], config: VerifyConfig
) -> Check:
    """Compare greedy continuations: what the model would say at each place of the answers.

    Up to the first difference both have read the same tokens, so one pass over an answer tells. A
    difference is let pass where the leading two were nearly tied on both sides.
    """
    differences, num_equal = [], 0
    for number, answer in enumerate(answers, start=1):
        logits = _forced(model, answer)
        place = _first_difference(logits, answer)
        num_equal += place is None
        if place is None:
            continue
        wanted, found = int(logits[place].argmax()), answer.token_ids[place]
        gaps = float(logits[place, wanted] - logits[place, found]), answer.gaps[place]
        if max(gaps) > config.tie_gap_logits:
            differences.append(
                f"prompt {number}: token {place} is {wanted} before and {found} after the hop, "
                f"{gaps[0]:.3f} logits apart before and {gaps[1]:.3f} after"
            )
    passed = bool(answers) and not differences
    detail = f"{num_equal} of {len(answers)} prompts equal for {config.greedy_tokens} tokens"
    if differences:
        detail += f"; {differences[0]}"
    figures: dict[str, float] = {
        "verify_greedy_equal_prompts": num_equal,
        "verify_greedy_prompts": len(answers),
    }
    return Check(
        hop=hop, name="greedy continuations", passed=passed, detail=detail, figures=figures
    )


def adapter_effect(base: Model, answers: Sequence[Answer], config: VerifyConfig) -> Check:
    """Check that the merged model does not merely speak like its base."""
    hop, name = "base -> tuned", "adapter's effect"
    changed, moved = 0, 0.0
    for answer in answers:
        logits = _forced(base, answer)
        changed += _first_difference(logits, answer) is not None
        moved = max(moved, float(np.abs(answer.logits - logits[0]).max()))
    detail = (
        f"greedy output differs from the base's on {changed} of {len(answers)} prompts; "
        f"largest change of a logit {moved:.3g}"
    )
    return Check(
        hop=hop,
        name=name,
        passed=changed > 0 or moved > config.tie_gap_logits,
        detail=detail,
        figures={"verify_prompts_changed_by_adapter": changed},
    )


def greedy_with_gaps(
    session: LlamaSession, prompt: Sequence[int], count: int
) -> tuple[list[int], list[float]]:
    """Return up to `count` greedy tokens after a prompt, a stop token included.

    With each comes the distance of the leading two logits.
    """
    session.reset()
    logits = session.last_logits(prompt)
    tokens: list[int] = []
    gaps: list[float] = []
    for _ in range(count):
        second, first = np.partition(logits, -2)[-2:]
        gaps.append(float(first - second))
        tokens.append(int(logits.argmax()))
        if session.is_end(tokens[-1]):
            break
        if len(tokens) < count:
            logits = session.last_logits(tokens[-1:])
    return tokens, gaps


def _forced(model: Model, answer: Answer) -> Any:
    """Return a model's logits at each place of an answer, (tokens, n_vocab) float32."""
    read = [*answer.prompt, *answer.token_ids[:-1]]
    model.reset()
    return np.concatenate(list(model.decode(read, first_logits=len(answer.prompt) - 1)))


def _first_difference(logits: Any, answer: Answer) -> int | None:
    """Return the first place where the leading logit is of another token."""
    differs = np.flatnonzero(logits.argmax(axis=1) != np.asarray(answer.token_ids))
    return int(differs[0]) if len(differs) else None
