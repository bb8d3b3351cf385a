"""Parity of each quantized file with its f16: metadata, weights and logits within its bounds."""

from collections.abc import Sequence
from pathlib import Path

from quantize.examples import ScoredText
from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession
from quantize.perplexity import StoredReference, score, score_reference
from quantize.progress import Steps
from quantize.verify.bounds import bound_of
from quantize.verify.prompts import compare_metadata
from quantize.verify.result import Check
from quantize.verify.weights import compare_weights


def check_quants(
    reference: Path, quants: Sequence[Path], texts: Sequence[ScoredText], n_ctx: int, steps: Steps
) -> list[Check]:
    """Compare every type with the reference, metadata first."""
    with steps.step("verify metadata of every type"):
        first = read_header(reference)
        checks = [compare_metadata(first, read_header(path)) for path in quants]
    sound = [path for path, check in zip(quants, checks, strict=True) if check.passed]
    if not sound:
        return checks
    with steps.step("verify weights of every type") as draw:
        for number, path in enumerate(sound, start=1):
            checks.append(compare_weights(first, read_header(path)))
            draw(number, len(sound))
    with steps.step("verify logits of every type") as draw:
        with LlamaSession(reference, n_ctx=n_ctx) as session:
            _, stored = score_reference(session, texts)
        for number, path in enumerate(sound, start=1):
            checks.append(_compare(reference, path, texts, stored, n_ctx))
            draw(number, len(sound))
        stored.close()
    return checks


def _compare(
    reference: Path, path: Path, texts: Sequence[ScoredText], stored: StoredReference, n_ctx: int
) -> Check:
    hop, name = f"{reference.name} -> {path.name}", "logits"
    held, bound = bound_of(read_header(path))
    with LlamaSession(path, n_ctx=n_ctx) as session:
        quality = score(session, texts, stored)
    kld, count = quality.mean_kld_nats, quality.num_decided_tokens or 0
    assert kld is not None  # there is a reference
    least, agreement = bound.least_agreement(count), quality.decided_top1_agreement
    passed = kld <= bound.max_mean_kld_nats and (agreement is None or agreement >= least)
    agreed = "no token is decided" if agreement is None else f"top-1 agreement {agreement:.1%}"
    detail = (
        f"{agreed} on {count} decided tokens (at least {least:.1%} for {held}), mean KLD "
        f"{kld:.2g} nats (at most {bound.max_mean_kld_nats:g}) over {quality.num_scored_tokens}"
    )
    return Check(hop=hop, name=name, passed=passed, detail=detail)
