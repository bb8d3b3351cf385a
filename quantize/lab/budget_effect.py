"""What a searched budget is worth: a development command that prints one table.

A file is searched for the size of a stock type and compared with every stock type that is no
larger, made with the same importance matrix. Training examples shape the choice; held-out examples
and a text that shaped nothing judge it. What was measured is kept and not measured again.
"""

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.budget.artifact import choice, probe_texts
from quantize.budget.search import Found, Group, Search
from quantize.config import BudgetConfig, ImatrixConfig, MeasureConfig, QuantizeConfig
from quantize.errors import QuantizeError
from quantize.imatrix import file as imatrix
from quantize.llama.ggml_tensor import Float32
from quantize.llama.quant_types import QuantType, resolve, table
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.measure.quality import Judge, corpora
from quantize.progress import Steps, no_draw
from quantize.run import write_json

_HEAD = ("file", "bytes", "KLD examples", "top-1", "KLD text", "top-1 on text")
_LEAST_SHARE = 0.8
"""Stock types smaller than this share of the budget are left out."""


class Bench:
    """Hold the model, the matrix and the judge; make files and keep their figures."""

    def __init__(
        self, model: Path, means: Mapping[str, Float32], judge: Judge, state: Path, steps: Steps
    ) -> None:
        self.model = model
        self.means = means
        self.judge = judge
        self.state = state
        self.steps = steps

    def figures(self, name: str, made: TypeChoice) -> dict[str, Any]:
        """Return the figures of a file, made now unless they are known."""
        known = self.state / f"{name}.json"
        if known.is_file():
            kept: dict[str, Any] = msgspec.json.decode(known.read_bytes())
            return kept
        path = self.state / f"{name}.gguf.partial"
        with self.steps.step(name) as draw:
            quantize_file(self.model, path, made, imatrix=self.means)
            found = {**self.judge.of(path, draw), "file_bytes": path.stat().st_size}
        path.unlink()
        write_json(known, found)
        return found

    def search(self, size: int, texts: Sequence[Any]) -> Found:
        """Search a budget, taking up what was probed for it."""
        kept = self.state / f"probes-{size}.json"
        known = msgspec.json.decode(kept.read_bytes(), type=list[Group]) if kept.is_file() else []
        config = BudgetConfig(target_size=str(size))
        with self.steps.step(f"search {size:,} bytes") as draw:
            return Search(self.model, config, self.means, texts).run(
                size,
                known=known,
                on_step=draw,
                on_group=lambda groups: write_json(kept, list(groups)),
            )


def compared(bench: Bench, budget: QuantType, texts: Sequence[Any]) -> list[str]:
    """Return a table: the searched file first, then the stock types by their divergence."""
    size = int(bench.figures(budget.name, TypeChoice(quant_type=budget))["file_bytes"])
    found = bench.search(size, texts)
    label = f"fit_{size}"
    ours = bench.figures(label, choice(found))
    large = [each for each in found.stock if each.file_bytes >= _LEAST_SHARE * size]
    stock = {
        each.type_name: bench.figures(
            each.type_name, TypeChoice(quant_type=table()[each.type_name])
        )
        for each in large
    }
    ranked = sorted(stock, key=lambda name: float(stock[name]["mean_kld_nats"]))
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD), _row(label, ours)]
    lines += [_row(name, stock[name]) for name in ranked]
    return [*lines, "", _verdict(ours, stock), ""]


def _verdict(ours: Mapping[str, Any], stock: Mapping[str, Mapping[str, Any]]) -> str:
    """Say the ratio to the best stock type, which may be another one on each text."""
    parts = []
    for key, where in (("mean_kld_nats", "held-out examples"), ("text_mean_kld_nats", "the text")):
        best = min(stock, key=lambda name: float(stock[name][key]))
        ratio = ours[key] / stock[best][key]
        parts.append(f"{ratio:.2f} times the KLD of {best}, the best stock type, on {where}")
    return "; ".join(parts)


def _row(name: str, figures: Mapping[str, Any]) -> str:
    shown = [f"{figures['file_bytes']:,}"]
    for prefix in ("", "text_"):
        shown.append(f"{figures[prefix + 'mean_kld_nats']:.4f}")
        shown.append(f"{figures[prefix + 'top1_agreement']:.1%}")
    return f"| {name} | " + " | ".join(shown) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m quantize.lab.budget_effect", description=__doc__
    )
    parser.add_argument("model", type=Path, help="a 16-bit GGUF")
    parser.add_argument("--imatrix", type=Path, required=True, help="one of this model, as GGUF")
    parser.add_argument("--train", type=Path, required=True, help="a finetune run's train.jsonl")
    parser.add_argument("--heldout", type=Path, required=True, help="its heldout.jsonl")
    parser.add_argument("--text", type=Path, required=True, help="a text, such as WikiText-2")
    parser.add_argument("--budget", default="q4_k_m", metavar="TYPE", help="the size to match")
    parser.add_argument("--tokens", type=int, default=1024, help="to score, of each text")
    parser.add_argument("--state", type=Path, required=True, help="folder for what was measured")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (QuantizeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    (budget,) = resolve([options.budget], has_imatrix=True)
    options.state.mkdir(parents=True, exist_ok=True)
    config = MeasureConfig(
        scored_tokens=options.tokens, text_tokens=options.tokens, text=str(options.text)
    )
    texts = probe_texts(options.model, QuantizeConfig(imatrix=ImatrixConfig()), options.train)
    with contextlib.ExitStack() as stack:
        judge = Judge(options.model, corpora(options.model, options.heldout, config), config)
        stack.callback(judge.close)
        judge.of_reference(no_draw)
        means = imatrix.read(options.imatrix).means()
        bench = Bench(options.model, means, judge, options.state, Steps())
        print("\n".join(compared(bench, budget, texts)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
