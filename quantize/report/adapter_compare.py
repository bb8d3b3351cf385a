"""An adapter beside the base against the same adapter merged: which keeps more, type by type.

Merging first and quantizing then lets the quantizer see the tuned weights; an adapter beside a
quantized base keeps its own numbers exact. Both are compared with the merged f16 file.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from quantize.config import VerifyConfig
from quantize.convert.converter import convert_to_f16
from quantize.convert.lora_gguf import convert_adapter
from quantize.errors import SourceError
from quantize.examples import ScoredText, read_examples
from quantize.llama.gguf_header import read_header
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.llama.session import LlamaSession
from quantize.perplexity import Quality, StoredReference, score, score_reference
from quantize.progress import Steps
from quantize.run import SCHEMA_VERSION, write_json
from quantize.verify.texts import Chain, longest, scored_texts

FILE = "adapter_comparison.json"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Hold both ways for one type; distances are from the merged f16 file."""

    quant_type: str
    merged_mean_kld_nats: float
    adapter_mean_kld_nats: float
    merged_top1_agreement: float
    adapter_top1_agreement: float


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the comparison of a run."""

    schema_version: int = SCHEMA_VERSION
    num_scored_tokens: int
    comparisons: tuple[Comparison, ...]


def compare_adapter(
    run: Path, ggufs: Sequence[Path], adapter: Path, base: Path, steps: Steps
) -> Document:
    """Compare on the run's held-out examples, and keep the figures beside the run.

    `ggufs` are the merged files, f16 first; `base` is the Hugging Face folder under the adapter.
    No importance matrix is used for the base's files.
    """
    heldout, config = run / "heldout.jsonl", VerifyConfig()
    if not heldout.is_file():
        raise SourceError(f"{run} has no heldout.jsonl to compare on")
    chain = Chain(
        merged=None,
        reference=ggufs[0],
        quants=tuple(ggufs[1:]),
        conversations=tuple(read_examples(heldout)),
    )
    texts, n_ctx = scored_texts(chain, config), longest(config)
    with LlamaSession(ggufs[0], n_ctx=n_ctx) as session:
        _, reference = score_reference(session, texts)
    with tempfile.TemporaryDirectory(dir=run, suffix=".partial") as scratch:
        folder = Path(scratch)
        lora, plain = folder / "lora.gguf", folder / "base-f16.gguf"
        with steps.step("convert base and adapter"):
            convert_adapter(adapter, base, lora, log=run / "convert.log")
            convert_to_f16(base, plain, name="base", log=run / "convert.log")
        found = []
        for path in ggufs:
            with steps.step(f"compare {path.name} with an adapter beside the base"):
                found.append(_compare(path, plain, lora, texts, reference, n_ctx=n_ctx))
    reference.close()
    document = Document(
        num_scored_tokens=sum(len(text.response_token_ids) for text in texts),
        comparisons=tuple(found),
    )
    write_json(run / FILE, document)
    return document


def section(run: Path) -> list[str]:
    """Return the report's lines on a comparison that was made; none otherwise."""
    if not (run / FILE).is_file():
        return []
    document = msgspec.json.decode((run / FILE).read_bytes(), type=Document)
    note = f"Distances from the merged f16 file over {document.num_scored_tokens} tokens."
    return ["## Adapter beside the base, or merged", "", *rows(document), "", note, ""]


def rows_of(run: Path) -> list[str]:
    """Return the table of a comparison that was made."""
    return rows(msgspec.json.decode((run / FILE).read_bytes(), type=Document))


def rows(document: Document) -> list[str]:
    """Return the comparison as a Markdown table."""
    lines = [
        "| type | mean KLD merged | mean KLD adapter | top-1 merged | top-1 adapter |",
        "|---|---|---|---|---|",
    ]
    return lines + [
        f"| {each.quant_type} | {each.merged_mean_kld_nats:.2g} | {each.adapter_mean_kld_nats:.2g} "
        f"| {each.merged_top1_agreement:.1%} | {each.adapter_top1_agreement:.1%} |"
        for each in document.comparisons
    ]


def _compare(
    path: Path,
    plain: Path,
    lora: Path,
    texts: Sequence[ScoredText],
    reference: StoredReference,
    *,
    n_ctx: int,
) -> Comparison:
    name = read_header(path).text("edgesmith.quant.type") or "f16"
    base = plain
    if name != "f16":
        base = plain.with_name(f"base-{name}.gguf")
        quantize_file(plain, base, TypeChoice(quant_type=table()[name]))
    merged = _score(path, None, texts, reference, n_ctx)
    beside = _score(base, lora, texts, reference, n_ctx)
    if base != plain:
        base.unlink()
    return Comparison(
        quant_type=name,
        merged_mean_kld_nats=merged.mean_kld_nats or 0.0,
        adapter_mean_kld_nats=beside.mean_kld_nats or 0.0,
        merged_top1_agreement=merged.top1_agreement or 0.0,
        adapter_top1_agreement=beside.top1_agreement or 0.0,
    )


def _score(
    path: Path,
    lora: Path | None,
    texts: Sequence[ScoredText],
    reference: StoredReference,
    n_ctx: int,
) -> Quality:
    with LlamaSession(path, n_ctx=n_ctx, adapter=lora) as session:
        return score(session, texts, reference)
