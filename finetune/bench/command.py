"""`python -m finetune bench`: training speed of this project beside TRL+PEFT, one card, one run.

    shape + rows -> one child process per contender, in turn -> table and JSON

Every contender gets a fresh process: Unsloth patches the libraries the others are measured with.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec

from finetune.bench.shapes import SHAPES, write_shape
from finetune.bench.spec import Spec, Timing
from finetune.config import PACKAGED_BASE, Config, TemplateConfig, TrainConfig
from finetune.data.settings import DataConfig
from finetune.errors import ConfigError, TrainingError

FLOP_PER_PARAMETER_TOKEN = 4  # forward and the gradient of activations; the base has no gradient
CONTENDERS: dict[str, dict[str, int | bool | str]] = {
    "edgesmith": {},
    "edgesmith-4bit": {"load_in_4bit": True},
    "trl": {},
    "trl-packed": {"packed": True, "gradient_checkpointing": False},
    "trl-packed-16": {"packed": True, "gradient_checkpointing": False, "batch_size": 16},
    "trl-liger": {"packed": True, "gradient_checkpointing": False, "liger": True},
    "edgesmith-rows": {"step_tokens": 4_096, "row_tokens": 4_096},
    "trl-rows": {"same_rows": True, "gradient_checkpointing": False},
}
DEFAULT = ("edgesmith", "trl", "trl-packed")
EXAMPLES = 18_000  # of the Llama-3.2-1B recipe; more data means larger steps


def build_parser() -> argparse.ArgumentParser:
    """Describe `python -m finetune bench`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune bench",
        description="Train a few dozen steps of a model shape with random weights, with this "
        "project's defaults and with plain TRL+PEFT; print tokens/s, peak memory and MFU.",
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smollm2-135m")
    parser.add_argument(
        "--contenders",
        default=",".join(DEFAULT),
        help=f"comma-separated, of {', '.join(CONTENDERS)} (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, help="examples (default: standard library functions)")
    parser.add_argument(
        "--tokenizer", default=PACKAGED_BASE, help="a folder or base model (default: %(default)s)"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=EXAMPLES,
        metavar="N",
        help="size of the data set, made by repeating the examples (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=30, help="steps of each (default: 30)")
    parser.add_argument("--warmup", type=int, default=10, help="of these, not timed (default: 10)")
    parser.add_argument("--max-seq-length", type=int, default=2048, metavar="TOKENS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return parser


def run_bench(arguments: list[str]) -> None:
    """Measure every contender and print the table on stdout.

    Raises:
        ConfigError: an unknown contender or a warm-up that leaves no step.
        TrainingError: not one contender finished.
    """
    options = build_parser().parse_args(arguments)
    names = _chosen(options)
    with tempfile.TemporaryDirectory(prefix="edgesmith-bench-") as folder:
        place = Path(folder)
        num_parameters = _write_inputs(options, place)
        timings = [found for name in names if (found := _measure(name, options, place))]
    if not timings:
        raise TrainingError("no contender finished; see the messages above")
    peak = matrix_flops()
    print(table(timings, num_parameters, peak))
    if options.json:
        figures = {
            "shape": options.shape,
            "num_parameters": num_parameters,
            "matrix_tflops": peak / 1e12,
            "contenders": timings,
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2))


def _chosen(options: argparse.Namespace) -> list[str]:
    names = [name.strip() for name in options.contenders.split(",")]
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        raise ConfigError(f"unknown contender {unknown[0]}; there are {', '.join(CONTENDERS)}")
    if options.warmup >= options.steps or options.warmup < 1:
        raise ConfigError(
            f"--warmup {options.warmup} must lie between 1 and --steps {options.steps} less one"
        )
    from finetune.libraries import gpu_name

    if gpu_name() is None and any(name.startswith("trl") for name in names):
        print("TRL's loss is a kernel for GPUs: its contenders are left out here", file=sys.stderr)
        names = [name for name in names if not name.startswith("trl")]
    if "trl-liger" in names and find_spec("liger_kernel") is None:
        print("trl-liger left out: liger-kernel is not installed", file=sys.stderr)
        names.remove("trl-liger")
    return names


def _write_inputs(options: argparse.Namespace, place: Path) -> int:
    """Write model folder and tokenized rows; return the model's number of parameters."""
    from finetune import base_model, libraries
    from finetune.config import BaseModelConfig
    from finetune.data.prepare import prepare
    from finetune.data.sources import load_dataset
    from finetune.template import choose_template

    libraries.import_transformers()
    folder = Path(options.tokenizer)
    if not (folder / "tokenizer.json").is_file():
        source = base_model.identify(options.tokenizer)
        folder = base_model.make_loadable(source, BaseModelConfig(ref=options.tokenizer)).weights
    tokenizer = libraries.load_tokenizer(str(folder))
    choose_template(tokenizer, TemplateConfig())
    data = DataConfig(max_train_tokens=0, max_heldout_examples=1)
    if options.data:
        data = msgspec.structs.replace(data, source="file", path=str(options.data))
    config = Config(data=data, train=TrainConfig(max_seq_length=options.max_seq_length))
    side = prepare(load_dataset(data), tokenizer, config).train
    rows = list(islice(cycle(side.encoded), options.examples))
    (place / "rows.json").write_bytes(msgspec.json.encode(rows))
    num_tokens = sum(row.num_tokens for row in rows)
    print(f"{len(rows):,} examples, {num_tokens:,} tokens", file=sys.stderr)
    num_parameters = write_shape(options.shape, place / "model")
    tokenizer.save_pretrained(place / "model")
    return num_parameters


def _measure(name: str, options: argparse.Namespace, place: Path) -> Timing | None:
    """Run one contender in its own process; None when it did not finish."""
    spec = Spec(
        contender=name,
        weights=str(place / "model"),
        rows=str(place / "rows.json"),
        num_steps=options.steps,
        warmup_steps=options.warmup,
        settings=CONTENDERS[name],
    )
    spec_file, result_file = place / f"{name}.spec.json", place / f"{name}.json"
    spec_file.write_bytes(msgspec.json.encode(spec))
    print(f"{name}: {options.steps} steps", file=sys.stderr)
    words = [sys.executable, "-m", "finetune.bench.contenders", str(spec_file), str(result_file)]
    done = subprocess.run(words, stdout=sys.stderr, check=False)
    if done.returncode or not result_file.is_file():
        print(f"{name} did not finish (exit status {done.returncode})", file=sys.stderr)
        return None
    timing = msgspec.json.decode(result_file.read_bytes(), type=Timing)
    print(f"{name}: {timing.tokens_per_second:,.0f} tokens/s", file=sys.stderr)
    return timing


def matrix_flops(size: int = 8192, repeats: int = 20) -> float:
    """Return the FLOP/s of a bfloat16 matrix product on this machine (size 1024 on a CPU)."""
    import time

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = size if device == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    wait = torch.cuda.synchronize if device == "cuda" else int
    wait()
    began = time.perf_counter()
    for _ in range(repeats):
        left @ right
    wait()
    return 2 * size**3 * repeats / (time.perf_counter() - began)


def table(timings: list[Timing], num_parameters: int, peak_flops: float) -> str:
    """Write the contenders as a Markdown table; ratios are to the first."""
    lines = [
        "| trainer | tokens/s | of the first | peak memory | MFU | last loss |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [_line(timing, timings[0], num_parameters, peak_flops) for timing in timings]
    lines.append(
        f"\nReal tokens. MFU: {FLOP_PER_PARAMETER_TOKEN} FLOP per parameter "
        f"({num_parameters / 1e6:,.0f}M) and token, against a measured matrix product of "
        f"{peak_flops / 1e12:,.0f} TFLOP/s."
    )
    lines += [f"{timing.contender}: {timing.note}" for timing in timings if timing.note]
    losses = {timing.contender: timing.losses_nats for timing in timings}
    if {"edgesmith-rows", "trl-rows"} <= losses.keys():
        pairs = zip(losses["edgesmith-rows"], losses["trl-rows"], strict=True)
        worst = max(abs(ours / theirs - 1) for ours, theirs in pairs)
        lines.append(f"Losses on the same rows differ by {worst:.2%} at most over all steps.")
    return "\n".join(lines)


def _line(timing: Timing, first: Timing, num_parameters: int, peak_flops: float) -> str:
    rate = timing.tokens_per_second
    mfu = FLOP_PER_PARAMETER_TOKEN * num_parameters * rate / peak_flops
    cells: list[Any] = [
        timing.contender,
        f"{rate:,.0f}",
        f"{rate / first.tokens_per_second:.2f}",
        f"{timing.peak_bytes / 2**30:.1f} GiB",
        f"{mfu:.1%}",
        f"{timing.losses_nats[-1]:.4f}" if timing.losses_nats else "",
    ]
    return "| " + " | ".join(cells) + " |"
