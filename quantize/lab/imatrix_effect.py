"""What an importance matrix is worth: a development command that prints one table.

Each type is made without a matrix, with one of training examples and with one of a text's first
half. All are compared with the 16-bit model on held-out examples and on the text's second half, so
that nothing is judged on what shaped it.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantize.config import ImatrixConfig, MeasureConfig
from quantize.errors import QuantizeError
from quantize.examples import text_file
from quantize.imatrix.calibration import calibration
from quantize.imatrix.collect import collect
from quantize.llama.ggml_tensor import Float32
from quantize.llama.quant_types import QuantType, resolve
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.measure.quality import Judge, corpora
from quantize.progress import Steps, no_draw

Matrices = Mapping[str, Mapping[str, Float32] | None]
_HEAD = ("type", "matrix", "MB", "KLD examples", "top-1", "99% KLD", "KLD text", "top-1 on text")


def table(
    model: Path, types: Sequence[QuantType], matrices: Matrices, judge: Judge, steps: Steps
) -> Iterator[str]:
    """Yield the table's lines, a file made and judged for each."""
    yield "| " + " | ".join(_HEAD) + " |"
    yield "|" + "---|" * len(_HEAD)
    with tempfile.TemporaryDirectory(dir=model.parent, suffix=".partial") as scratch:
        for entry in types:
            for name, means in matrices.items():
                if means is None and entry.needs_imatrix:
                    continue
                path = Path(scratch) / f"{entry.name}.gguf"
                with steps.step(f"{entry.name}, matrix: {name}") as draw:
                    quantize_file(model, path, TypeChoice(quant_type=entry), imatrix=means)
                    figures = judge.of(path, draw)
                yield _row([entry.name, name, f"{path.stat().st_size / 1e6:.1f}"], figures)
                path.unlink()


def collected(model: Path, train: Path, text: Path, num_tokens: int, steps: Steps) -> Matrices:
    """Return no matrix, that of the examples and that of the text."""
    configs = {
        "own": (train, ImatrixConfig(tokens=num_tokens)),
        "text": (None, ImatrixConfig(tokens=num_tokens, text=str(text))),
    }
    found: dict[str, Mapping[str, Float32] | None] = {"none": None}
    for name, (examples, config) in configs.items():
        with steps.step(f"collect on {name}") as draw:
            chosen = calibration(model, examples, config, num_tokens=num_tokens)
            entries = collect(model, chosen.sequences, on_sequence=draw).entries
        found[name] = {weight: entry.means() for weight, entry in entries.items()}
    return found


def halves(path: Path, folder: Path) -> tuple[Path, Path]:
    """Write a text's two halves, cut at a line's end."""
    lines = text_file(path)[0].splitlines(keepends=True)
    middle = len(lines) // 2
    parts = folder / f"first-{path.name}", folder / f"second-{path.name}"
    for part, chosen in zip(parts, (lines[:middle], lines[middle:]), strict=True):
        part.write_text("".join(chosen), encoding="utf-8")
    return parts


def _row(cells: Sequence[str], figures: Mapping[str, Any]) -> str:
    shown = [f"{figures['mean_kld_nats']:.4f}", f"{figures['top1_agreement']:.1%}"]
    shown += [f"{figures['p99_kld_nats']:.3f}", f"{figures['text_mean_kld_nats']:.4f}"]
    shown.append(f"{figures['text_top1_agreement']:.1%}")
    return "| " + " | ".join([*cells, *shown]) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m quantize.lab.imatrix_effect", description=__doc__
    )
    parser.add_argument("model", type=Path, help="a 16-bit GGUF")
    parser.add_argument("--train", type=Path, required=True, help="a finetune run's train.jsonl")
    parser.add_argument("--heldout", type=Path, required=True, help="its heldout.jsonl")
    parser.add_argument("--text", type=Path, required=True, help="a text, such as WikiText-2")
    parser.add_argument("--types", default="q4_k_m,q4_0,iq4_xs", metavar="LIST")
    parser.add_argument("--tokens", type=int, default=4096, help="to collect on; and to score")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (QuantizeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    types, steps = resolve(options.types.split(","), has_imatrix=True), Steps()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        first, second = halves(options.text, Path(scratch))
        scored = options.tokens // 2
        config = MeasureConfig(scored_tokens=scored, text_tokens=scored, text=str(second))
        matrices = collected(options.model, options.train, first, options.tokens, steps)
        judge = Judge(options.model, corpora(options.model, options.heldout, config), config)
        stack.callback(judge.close)
        judge.of_reference(no_draw)
        for line in table(options.model, types, matrices, judge, steps):
            print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
