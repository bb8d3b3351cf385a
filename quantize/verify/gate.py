"""The parity gate: does each hop keep the model's behaviour? Collects checks, writes no weights.

    base + adapter ──merge──▶ merged/ ──convert──▶ f16 GGUF ──quantize──▶ each type ──serve──▶ HTTP

A check names its hop, what was compared, and the first difference. The gate fails on the first
failed check in hop order, and all of them are kept in verification.json, with the hops on which
nothing could be checked.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from quantize.config import VerifyConfig
from quantize.convert.adapter import Adapter
from quantize.convert.hf_folder import load_tokenizer
from quantize.convert.merge_proof import MergeProof, prove
from quantize.digest import sha256_file
from quantize.errors import VerificationError
from quantize.examples import ScoredText
from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession
from quantize.perplexity import score_reference
from quantize.progress import Steps
from quantize.run import SCHEMA_VERSION, OutputRecord, write_json
from quantize.verify.hf_reference import HfModel
from quantize.verify.http import check_server
from quantize.verify.logits import (
    Answer,
    adapter_effect,
    compare_greedy,
    compare_logits,
    read_answers,
)
from quantize.verify.merged import check_folder
from quantize.verify.prompts import compare_prompts, compare_template
from quantize.verify.quants import check_quants
from quantize.verify.result import Check, NotRun
from quantize.verify.texts import Chain, cases_of, hf_texts, longest, renderer, scored_texts
from quantize.verify.tokens import (
    compare_added_tokens,
    compare_bos,
    compare_special_ids,
    compare_stop_set,
)

FILE = "verification.json"


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Hold all checks of a run."""

    schema_version: int = SCHEMA_VERSION
    passed: bool
    checks: tuple[Check, ...]
    not_run: tuple[NotRun, ...] = ()
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
            if chain.tuned:
                checks += check_folder(chain.base, chain.tuned, chain.merged, cases_of(chain))
    if chain.merged:
        with steps.step(f"verify merged -> {chain.reference.name}"):
            checks += _conversion(chain, chain.merged, config)
    checks += check_quants(
        chain.reference, chain.quants, scored_texts(chain, config), longest(config), steps
    )
    served, not_run = _server(chain, config, steps, sound=all(check.passed for check in checks))
    checks += served
    return Verification(
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        not_run=tuple(not_run),
        merge=proof,
    )


def _server(
    chain: Chain, config: VerifyConfig, steps: Steps, *, sound: bool
) -> tuple[list[Check], list[NotRun]]:
    """Check one file over HTTP, the smallest; the others have the same template and tokens."""
    model = min((chain.reference, *chain.quants), key=lambda path: path.stat().st_size)
    hop = f"{model.name} -> HTTP"
    if not config.server:
        return [], [NotRun(hop=hop, reason="verify.server is false")]
    if not sound:
        return [], [NotRun(hop=hop, reason="an earlier hop failed")]
    with steps.step(f"verify {hop}"):
        return check_server(model, renderer(chain), cases_of(chain), config)


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
    tokenizer, header, cases = load_tokenizer(merged), read_header(chain.reference), cases_of(chain)
    texts = scored_texts(chain, config)
    with LlamaSession(chain.reference, n_ctx=longest(config) + config.greedy_tokens) as session:
        checks = [
            compare_template(hop, tokenizer, header),
            compare_special_ids(hop, tokenizer, session),
            compare_stop_set(hop, tokenizer, merged, session),
            compare_prompts(hop, tokenizer, session, header, cases),
            compare_bos(hop, tokenizer, session, hf_texts(tokenizer, cases)),
            compare_added_tokens(hop, tokenizer, session),
        ]
        if not all(check.passed for check in checks):
            return checks
        prompts = [text.prompt_token_ids for text in texts[: config.num_prompts]]
        answers = read_answers(session, prompts, config.greedy_tokens)
    checks += _numbers(merged, chain.reference, texts, answers, config)
    if chain.base is not None:
        checks.append(adapter_effect(HfModel(chain.base), answers, config))
    return checks


def _numbers(
    merged: Path,
    reference: Path,
    texts: Sequence[ScoredText],
    answers: Sequence[Answer],
    config: VerifyConfig,
) -> list[Check]:
    """Compare logits and answers, one model in memory at a time."""
    hop = f"merged -> {reference.name}"
    model, n_vocab = HfModel(merged), len(answers[0].logits)
    if model.n_vocab != n_vocab:
        detail = f"{model.n_vocab} logits became {n_vocab}"
        return [Check(hop=hop, name="logits", passed=False, detail=detail)]
    _, stored = score_reference(model, texts)
    said = compare_greedy(hop, model, answers, config)
    del model
    with LlamaSession(reference, n_ctx=longest(config)) as session:
        compared = compare_logits(hop, session, texts, stored, config)
    stored.close()
    return [compared, said]
