"""Parity of numbers: logits and greedy continuations of two runtimes on the same tokens.

Two exact runtimes still round differently, so a greedy difference only counts where the first
runtime's leading logits are further apart than a stated tie gap.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from quantize.config import VerifyConfig
from quantize.examples import ScoredText
from quantize.hf_reference import HfModel
from quantize.llama_session import LlamaSession
from quantize.perplexity import score, score_reference
from quantize.verify_result import Check

Prompts = Sequence[Sequence[int]]


def compare_logits(
    hop: str, model: Any, session: Any, texts: Sequence[ScoredText], config: VerifyConfig
) -> Check:
    """Compare next-token distributions, teacher-forced on text."""
    name = "logits"
    if model.n_vocab != session.n_vocab:
        detail = f"{model.n_vocab} logits became {session.n_vocab}"
        return Check(hop=hop, name=name, passed=False, detail=detail)
    _, reference = score_reference(model, texts)
    quality = score(session, texts, reference)
    reference.close()
    agreement, kld = quality.top1_agreement or 0.0, quality.mean_kld_nats or 0.0
    passed = agreement >= config.min_top1_agreement and kld <= config.max_mean_kld_nats
    detail = (
        f"top-1 agreement {agreement:.1%} (at least {config.min_top1_agreement:.1%}), mean KLD "
        f"{kld:.2g} nats (at most {config.max_mean_kld_nats:g}) over "
        f"{quality.num_scored_tokens} tokens"
    )
    figures = {"verify_f16_top1_agreement": agreement, "verify_f16_mean_kld_nats": kld}
    return Check(hop=hop, name=name, passed=passed, detail=detail, figures=figures)


def compare_greedy(
    hop: str, model: HfModel, session: LlamaSession, prompts: Prompts, config: VerifyConfig
) -> tuple[Check, list[list[int]]]:
    """Compare greedy continuations; return the check and the GGUF's outputs."""
    stops = session.stop_ids()
    outputs, differences, num_equal = [], [], 0
    for number, prompt in enumerate(prompts, start=1):
        wanted = model.greedy(prompt, config.greedy_tokens, stops)
        found = greedy(session, prompt, config.greedy_tokens)
        outputs.append(found)
        num_equal += wanted == found
        difference = _difference(model, prompt, wanted, found, config.tie_gap_logits)
        if difference is not None:
            differences.append(f"prompt {number}: {difference}")
    allowed = len(prompts) * (1 - config.min_equal_share)
    passed = bool(prompts) and len(differences) <= allowed
    detail = f"{num_equal} of {len(prompts)} prompts equal for {config.greedy_tokens} tokens"
    if differences:
        detail += f"; {differences[0]}"
    figures: dict[str, float] = {
        "verify_greedy_equal_prompts": num_equal,
        "verify_greedy_prompts": len(prompts),
    }
    check = Check(
        hop=hop, name="greedy continuations", passed=passed, detail=detail, figures=figures
    )
    return check, outputs


def adapter_effect(
    base: HfModel,
    session: LlamaSession,
    prompts: Prompts,
    outputs: Sequence[list[int]],
    config: VerifyConfig,
) -> Check:
    """Check that the merged model does not merely speak like its base."""
    hop, name = "base -> tuned", "adapter's effect"
    stops = session.stop_ids()
    before = [base.greedy(prompt, config.greedy_tokens, stops) for prompt in prompts]
    changed = sum(left != right for left, right in zip(before, outputs, strict=True))
    moved = max((_logit_shift(base, session, prompt) for prompt in prompts), default=0.0)
    detail = (
        f"greedy output differs from the base's on {changed} of {len(prompts)} prompts; "
        f"largest change of a logit {moved:.3g}"
    )
    return Check(
        hop=hop,
        name=name,
        passed=changed > 0 or moved > config.tie_gap_logits,
        detail=detail,
        figures={"verify_prompts_changed_by_adapter": changed},
    )


def greedy(session: LlamaSession, prompt: Sequence[int], count: int) -> list[int]:
    """Return up to `count` greedy tokens after a prompt, a stop token included."""
    return greedy_with_gap(session, prompt, count)[0]


def greedy_with_gap(
    session: LlamaSession, prompt: Sequence[int], count: int
) -> tuple[list[int], float]:
    """Return greedy tokens, and the smallest distance between the leading two logits on the way."""
    session.reset()
    logits = session.last_logits(prompt)
    tokens: list[int] = []
    gap = float("inf")
    for _ in range(count):
        second, first = np.partition(logits, -2)[-2:]
        gap = min(gap, float(first - second))
        tokens.append(int(logits.argmax()))
        if session.is_end(tokens[-1]):
            break
        if len(tokens) < count:
            logits = session.last_logits(tokens[-1:])
    return tokens, gap


def _difference(
    model: HfModel, prompt: Sequence[int], wanted: list[int], found: list[int], tie_gap: float
) -> str | None:
    pairs = zip(wanted, found, strict=False)
    place = next((i for i, (left, right) in enumerate(pairs) if left != right), None)
    if place is None:
        return None
    logits = _last(model, [*prompt, *wanted[:place]])
    gap = float(logits[wanted[place]] - logits[found[place]])
    if gap <= tie_gap:
        return None
    return (
        f"token {place} is {wanted[place]} before and {found[place]} after the hop, "
        f"{gap:.3f} logits apart"
    )


def _logit_shift(base: HfModel, session: LlamaSession, prompt: Sequence[int]) -> float:
    session.reset()
    return float(np.abs(session.last_logits(prompt) - _last(base, prompt)).max())


def _last(model: HfModel, token_ids: Sequence[int]) -> Any:
    return next(iter(model.decode(token_ids, first_logits=len(token_ids) - 1)))[-1]
