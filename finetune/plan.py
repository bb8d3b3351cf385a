"""What a fine-tune is about to do, in numbers, before it does it.

Knows counts and one measured speed. Does not know whether the estimate came true.
"""

import math
import os
import shutil

from finetune.base_model import BaseModel
from finetune.config import Config
from finetune.data.prepare import Prepared
from finetune.run import Run

# 135M parameters in float32 trained at 72 tokens/s on two cores.
CPU_PARAMETER_TOKENS_PER_CORE_SECOND = 135e6 * 72 / 2
# Below this a step's time is not in its arithmetic, and parameters tell nothing.
SMALLEST_ESTIMATED = 30e6


def planned_steps(config: Config, num_examples: int) -> int:
    """Return the optimizer steps of a run; packed rows need fewer, so this is an upper bound."""
    if config.train.max_steps:
        return config.train.max_steps
    batches = math.ceil(num_examples / config.train.batch_size)
    return math.ceil(math.ceil(batches / config.train.grad_accumulation) * config.train.epochs)


def planned_tokens(config: Config, per_epoch: int, num_examples: int) -> int:
    """Return the tokens that all steps together will read; those of an epoch are given."""
    if config.train.max_steps:
        seen = config.train.max_steps * config.train.batch_size * config.train.grad_accumulation
        return round(per_epoch * seen / num_examples)
    return round(per_epoch * config.train.epochs)


def describe_plan(
    config: Config, base: BaseModel, prepared: Prepared, *, num_parameters: int, per_epoch: int
) -> str:
    """Write base, data, steps and the estimated time; `per_epoch` are the tokens of an epoch."""
    counts = prepared.figures()
    tokens = planned_tokens(config, per_epoch, counts["num_train_examples"])
    lines = {
        "base": f"{base.source.ref} ({num_parameters / 1e6:.0f}M parameters, licence "
        f"{base.licence or 'unknown'})",
        "examples": f"{counts['num_train_examples']} to train on, "
        f"{counts['num_heldout_examples']} held out, of {counts['num_examples_found']} found",
        "dropped": f"{counts['num_duplicate_examples']} repeats, "
        f"{counts['num_too_long_examples']} longer than {config.train.max_seq_length} tokens; "
        f"{counts['num_truncated_examples']} truncated",
        "steps": f"{planned_steps(config, counts['num_train_examples'])}, {tokens:,} tokens",
        "estimate": _estimate(tokens, num_parameters),
    }
    return "\n".join(f"{name + ':':<10}{text}" for name, text in lines.items())


def log_estimate(run: Run, tokens: int, num_parameters: int) -> None:
    """Keep the estimate for a CPU, so that the report can say whether it came true."""
    rate = _cpu_tokens_per_second(num_parameters)
    if rate is not None:
        run.log("estimated", train_seconds=tokens / rate, tokens_per_second=rate)


def _cpu_tokens_per_second(num_parameters: int) -> float | None:
    """Return the speed to expect of this CPU; None for a toy model, or where a GPU will train."""
    if shutil.which("nvidia-smi") or num_parameters < SMALLEST_ESTIMATED:
        return None
    return CPU_PARAMETER_TOKENS_PER_CORE_SECOND * (os.cpu_count() or 1) / num_parameters


def _estimate(tokens: int, num_parameters: int) -> str:
    rate = _cpu_tokens_per_second(num_parameters)
    if rate is None and num_parameters < SMALLEST_ESTIMATED:
        return "none for a model this small"
    if rate is None:
        return "none before the first steps on a GPU"
    return f"about {tokens / rate / 60:.1f} minutes of training on this CPU ({rate:,.0f} tokens/s)"
