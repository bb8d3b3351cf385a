"""Greedy answers of a base model and of the same model with its adapter, in batches.

One copy of the weights serves both: the base is the model with its adapter switched off. Plain
transformers and PEFT, on a GPU where there is one. Knows no problems, only prompts.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec

from finetune import base_model, libraries
from finetune.errors import BaseModelError, EvaluationError
from finetune.evaluate.prompts import Prompt

Side = Literal["base", "tuned"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The text of one answer and why it ended."""

    task_id: str
    text: str
    finish_reason: Literal["stop", "length"]


def load(run: Path, manifest: dict[str, Any], tokenizer: Any) -> Any:
    """Load a finished run's base with its adapter: float32 on a CPU, 16 bits on a GPU.

    Raises:
        BaseModelError: the base is not where the manifest says.
    """
    import torch

    with libraries.quiet():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, GenerationConfig

    on_gpu = torch.cuda.is_available()
    model: Any = AutoModelForCausalLM.from_pretrained(
        weights_of(run, manifest), dtype=libraries.half_precision() if on_gpu else torch.float32
    )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    model.generation_config = GenerationConfig()  # a model's own may ask for sampling or penalties
    model = PeftModel.from_pretrained(model, run / "adapter")
    return model.eval().to("cuda" if on_gpu else "cpu")


def weights_of(run: Path, manifest: dict[str, Any]) -> Path:
    """Return the folder of the base's 16-bit weights, fetched first when it is on the hub."""
    entry = manifest["base_model"]
    if entry["kind"] == "hub":
        return base_model.locate(entry["path"])
    folder = run / str(entry["path"])
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"the base model of {run.name} is not at {folder}; put it back there")
    return folder


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    ends: frozenset[int],
    *,
    side: Side,
    max_tokens: int,
    batch_size: int,
) -> Iterator[list[Answer]]:
    """Yield the answers of one batch after another, short prompts first.

    Raises:
        EvaluationError: a batch does not fit into the GPU's memory.
    """
    import torch

    ranked = sorted(prompts, key=lambda prompt: len(prompt.input_ids))
    for start in range(0, len(ranked), batch_size):
        batch = ranked[start : start + batch_size]
        try:
            with nullcontext() if side == "tuned" else model.disable_adapter(), torch.no_grad():
                rows = _continue(model, tokenizer, batch, ends, max_tokens)
        except torch.OutOfMemoryError:
            raise EvaluationError(
                f"{len(batch)} answers at once do not fit into the GPU's memory; lower --batch-size"
            ) from None
        yield [
            _answer(prompt, row, tokenizer, ends) for prompt, row in zip(batch, rows, strict=True)
        ]


def _continue(
    model: Any, tokenizer: Any, batch: Sequence[Prompt], ends: frozenset[int], max_tokens: int
) -> list[list[int]]:
    """Return the new tokens of each row; prompts are padded on the left."""
    import torch

    width = max(len(prompt.input_ids) for prompt in batch)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
    padding = [width - len(prompt.input_ids) for prompt in batch]
    input_ids = [[pad] * gap + row.input_ids for gap, row in zip(padding, batch, strict=True)]
    seen = [[0] * gap + [1] * (width - gap) for gap in padding]
    out = model.generate(
        input_ids=torch.tensor(input_ids, device=model.device),
        attention_mask=torch.tensor(seen, device=model.device),
        do_sample=False,
        max_new_tokens=_room(model, width, max_tokens),
        eos_token_id=sorted(ends),
        pad_token_id=pad,
    )
    rows: list[list[int]] = out[:, width:].tolist()
    return rows


def _room(model: Any, width: int, max_tokens: int) -> int:
    """Return how many tokens may follow a prompt, within the context the model was made for."""
    limit = getattr(model.config, "max_position_embeddings", None) or width + max_tokens
    if width >= limit:
        raise EvaluationError(f"a prompt of {width:,} tokens fills the model's {limit:,}")
    return int(min(max_tokens, limit - width))


def _answer(prompt: Prompt, row: list[int], tokenizer: Any, ends: frozenset[int]) -> Answer:
    end = next((at for at, token in enumerate(row) if token in ends), None)
    return Answer(
        task_id=prompt.task_id,
        text=tokenizer.decode(row[:end], skip_special_tokens=True),
        finish_reason="length" if end is None else "stop",
    )


def report_progress(side: Side, total: int) -> Callable[[int], None]:
    """Return what shows how many answers of a side are there."""

    def show(done: int) -> None:
        print(f"{side}: {done}/{total} answers", file=sys.stderr, flush=True)

    return show
