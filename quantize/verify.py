"""The parity gate: does each hop keep the model's behaviour? Collects checks, writes no weights.

    base + adapter ──merge──▶ merged/ ──convert──▶ f16 GGUF ──quantize──▶ each type

A check names its hop, what was compared, and the first difference. The gate fails on the first
failed check in hop order, and all of them are kept in verification.json.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from quantize.adapter import Adapter
from quantize.config import VerifyConfig
from quantize.digest import sha256_file
from quantize.errors import VerificationError
from quantize.examples import Message, ScoredText, example_texts, plain_texts, python_source
from quantize.gguf_header import read_header
from quantize.hf_folder import load_tokenizer
from quantize.hf_reference import HfModel
from quantize.llama_session import LlamaSession
from quantize.merge_proof import MergeProof, prove
from quantize.progress import Steps
from quantize.run import SCHEMA_VERSION, OutputRecord, write_json
from quantize.verify_logits import adapter_effect, compare_greedy, compare_logits
from quantize.verify_prompts import (
    PROMPTS,
    compare_metadata,
    compare_prompts,
    compare_special_ids,
    compare_template,
)
from quantize.verify_result import Check

FILE = "verification.json"


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Name the artifacts of one run along the hops; absent ones are not checked."""

    merged: Path | None
    reference: Path
    quants: tuple[Path, ...]
    base: Path | None = None
    adapter: Adapter | None = None
    conversations: tuple[list[Message], ...] = ()


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Hold all checks of a run."""

    schema_version: int = SCHEMA_VERSION
    passed: bool
    checks: tuple[Check, ...]
    merge: MergeProof | None = None

    def require(self) -> None:
        """Raise VerificationError for the first failed check."""
        for check in self.checks:
            if not check.passed:
                raise VerificationError(f"hop {check.hop}: {check.name}: {check.detail}")

    def metrics(self) -> dict[str, float]:
        """Return the figures for a manifest."""
        figures = {key: value for check in self.checks for key, value in check.figures.items()}
        merge = msgspec.to_builtins(self.merge) if self.merge else {}
        return {**{f"merge_{key}": value for key, value in merge.items()}, **figures}


def write(run: Path, verification: Verification) -> None:
    """Keep the checks beside a run."""
    write_json(run / FILE, verification)


def passed(run: Path) -> bool:
    """Say whether a run's last verification was kept and passed."""
    try:
        return msgspec.json.decode((run / FILE).read_bytes(), type=Verification).passed
    except (OSError, msgspec.MsgspecError):
        return False


def compare_files(run: Path, outputs: Sequence[OutputRecord]) -> Check:
    """Compare every file of a run with the manifest's hash."""
    hop, name = "manifest -> files", "SHA-256"
    for record in outputs:
        path = run / record.path
        if not path.is_file() or sha256_file(path) != record.sha256:
            detail = f"{record.path} is not the file that was written"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    return Check(hop=hop, name=name, passed=True, detail=f"{len(outputs)} files unchanged")


def verify(
    chain: Chain, config: VerifyConfig, steps: Steps, *, before: Sequence[Check] = ()
) -> Verification:
    """Run every check that the chain's artifacts allow, after those made `before`."""
    checks = list(before)
    proof: MergeProof | None = None
    if chain.base and chain.adapter and chain.merged:
        with steps.step("verify base+adapter -> merged"):
            proof, check = _prove(chain.base, chain.adapter, chain.merged)
            checks.append(check)
    if chain.merged:
        with steps.step(f"verify merged -> {chain.reference.name}"):
            checks += _conversion(chain, chain.merged, config)
    with steps.step("verify metadata of every type"):
        first = read_header(chain.reference)
        checks += [compare_metadata(first, read_header(path)) for path in chain.quants]
    return Verification(
        passed=all(check.passed for check in checks), checks=tuple(checks), merge=proof
    )


def _prove(base: Path, adapter: Adapter, merged: Path) -> tuple[MergeProof | None, Check]:
    hop, name = "base+adapter -> merged", "every weight is base + scale B A"
    try:
        proof = prove(base, adapter, merged)
    except VerificationError as error:
        detail = str(error).removeprefix(f"hop {hop}: ")
        return None, Check(hop=hop, name=name, passed=False, detail=detail)
    detail = (
        f"{proof.num_changed_tensors} tensors changed, {proof.num_unchanged_tensors} did not; "
        f"largest deviation {proof.max_deviation_ulp:.3f} ulp"
    )
    return proof, Check(hop=hop, name=name, passed=True, detail=detail)


def _conversion(chain: Chain, merged: Path, config: VerifyConfig) -> list[Check]:
    hop = f"merged -> {chain.reference.name}"
    tokenizer, header = load_tokenizer(merged), read_header(chain.reference)
    longest = max(512, 2 * config.scored_tokens)
    with LlamaSession(chain.reference, n_ctx=longest + config.greedy_tokens) as session:
        checks = [compare_template(hop, tokenizer, header)]
        checks.append(compare_special_ids(hop, tokenizer, session))
        checks.append(compare_prompts(hop, tokenizer, session, header, _prompts(chain)))
        if not all(check.passed for check in checks):
            return checks
        model = HfModel(merged)
        template = header.text("tokenizer.chat_template")
        texts = _texts(session, template, chain, config, longest)
        checks.append(compare_logits(hop, model, session, texts, config))
        prompts = [text.prompt_token_ids for text in texts[: config.num_prompts]]
        greedy, outputs = compare_greedy(hop, model, session, prompts, config)
        checks.append(greedy)
        if chain.base is not None:
            del model
            checks.append(adapter_effect(HfModel(chain.base), session, prompts, outputs, config))
    return checks


def _prompts(chain: Chain) -> list[list[Message]]:
    return [*PROMPTS, *(conversation[:-1] for conversation in chain.conversations[:4])]


def _texts(
    session: LlamaSession,
    template: str | None,
    chain: Chain,
    config: VerifyConfig,
    longest: int,
) -> list[ScoredText]:
    """Return scored texts: short responses of many examples rather than one long one."""
    if template is not None and chain.conversations:
        return _short_examples(session, template, chain.conversations, config, longest)
    text, _ = python_source()
    return plain_texts(
        session, text, scored_tokens=config.scored_tokens, max_example_tokens=longest // 8
    )


def _short_examples(
    session: LlamaSession,
    template: str,
    conversations: Sequence[list[Message]],
    config: VerifyConfig,
    longest: int,
) -> list[ScoredText]:
    share = max(1, config.scored_tokens // max(config.num_prompts, 1))
    texts: list[ScoredText] = []
    for conversation in conversations:
        if len(texts) == config.num_prompts:
            break
        texts += example_texts(
            session,
            template,
            [conversation],
            scored_tokens=share,
            max_example_tokens=longest // 2,
            names=session.special_names(),
        )
    return texts
