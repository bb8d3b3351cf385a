"""The trainers that are compared: this project's defaults and TRL with PEFT, each in a process.

    edgesmith     what `python -m finetune` does on this card: step and rows chosen by the probe
    edgesmith-4bit  the same with the base in 4 bits
    trl           TRL and PEFT as their documentation starts them: batch 8, padded, checkpointing
    trl-packed    TRL's packing, rows of 2,048 tokens, eight a step, activations kept
    trl-packed-16 the same with sixteen rows a step
    trl-liger     trl-packed with liger-kernel
    edgesmith-rows, trl-rows   4,096 tokens a step, in both the very same examples: for the losses

Run as `python -m finetune.bench.contenders SPEC.json RESULT.json`. Knows no command line of users.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from finetune.bench.spec import Spec, Timing
from finetune.config import Config, LoraConfig, TrainConfig
from finetune.data.prepare import Prepared, Side
from finetune.data.tokens import IGNORED, Encoded
from finetune.errors import TrainingError
from finetune.steps import StepShape, make_schedule

BATCH = 8
SAME_ROWS = StepShape(row_tokens=4_096, rows_per_step=1)
PACKED_ROW = 2_048


class StepClock:
    """Notes when each step has ended on the card, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def step(self) -> None:
        """Wait for the card and note the time."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def callback(self) -> Any:
        """Return the trainer's callback that drives this clock."""
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.step()

            def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
                if "loss" in (logs or {}):
                    clock.losses.append(float(logs["loss"]))

        return Callback()


def run_edgesmith(spec: Spec, rows: list[Encoded]) -> Timing:
    """Train as the product does, with the defaults a user gets."""
    from finetune import libraries, shaping, trainer
    from finetune.model import load_model
    from finetune.run import Run
    from finetune.task import Task

    fast_model = libraries.import_unsloth()
    settings = TrainConfig(
        max_steps=spec.num_steps,
        max_seq_length=max(row.num_tokens for row in rows),
        learning_rate=1e-4,
        save_steps=10**6,
        **spec.settings,  # type: ignore[arg-type]  # checked by the configuration itself
    )
    config = Config(train=settings, lora=LoraConfig(r=16, alpha=16))
    side = Side(examples=(), encoded=tuple(rows))
    model = load_model(fast_model, Path(spec.weights), config)
    decision = shaping.decide(fast_model, model, side, settings)
    schedule = make_schedule(side.encoded, settings, decision.shape, pad_id=0)
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            fast_model=fast_model,
            model=model,
            tokenizer=libraries.load_tokenizer(spec.weights),
            prepared=Prepared(train=side, heldout=side, **_no_counts()),
            settings=settings,
            run=Run(Path(folder)),
        )
        made = trainer.make_trainer(task, decision, schedule)
        made.add_callback(clock.callback())
        made.train()
    first, last = spec.warmup_steps, schedule.num_steps
    return Timing(
        contender=spec.contender,
        num_tokens=schedule.tokens_until(last) - schedule.tokens_until(first),
        seconds=clock.ends[last - 1] - clock.ends[first - 1],
        peak_bytes=_peak_bytes(),
        losses_nats=clock.losses,
        note=decision.describe(),
    )


def _no_counts() -> dict[str, Any]:
    return dict.fromkeys(("num_found", "num_duplicates", "num_truncated", "num_too_long"), 0)


def run_trl(spec: Spec, rows: list[Encoded]) -> Timing:
    """Train with TRL and PEFT alone."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig as PeftLora
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    packed, same = bool(spec.settings.get("packed")), bool(spec.settings.get("same_rows"))
    model = AutoModelForCausalLM.from_pretrained(spec.weights, dtype=torch.bfloat16)
    clock, counter = StepClock(), _TokenCounter()
    columns = [_trl_columns(row, packed=packed) for row in rows]
    table = Dataset.from_list(_same_rows(spec, rows) if same else columns)
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=1 if same else int(spec.settings.get("batch_size", BATCH)),
            gradient_checkpointing=bool(spec.settings.get("gradient_checkpointing", True)),
            max_length=PACKED_ROW if packed else max(row.num_tokens for row in rows),
            packing=packed,
            use_liger_kernel=bool(spec.settings.get("liger")),
            train_sampling_strategy="sequential" if same else "random",
            max_steps=spec.num_steps,
            learning_rate=1e-4,
            warmup_steps=2,
            bf16=torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **({"completion_only_loss": True} if packed else _READY),
        )
        made = SFTTrainer(
            model=model,
            args=args,
            train_dataset=table,
            processing_class=AutoTokenizer.from_pretrained(spec.weights),
            peft_config=PeftLora(
                r=16,
                lora_alpha=16,
                target_modules=list(LoraConfig().target_modules),
                task_type="CAUSAL_LM",
            ),
        )
        made.data_collator = counter.around(_as_batch if same else made.data_collator)
        made.add_callback(clock.callback())
        made.train()
    per_step = counter.num_tokens / counter.num_batches
    measured = spec.num_steps - spec.warmup_steps
    return Timing(
        contender=spec.contender,
        num_tokens=round(per_step * measured),
        seconds=clock.ends[-1] - clock.ends[spec.warmup_steps - 1],
        peak_bytes=_peak_bytes(),
        losses_nats=clock.losses,
    )


def _same_rows(spec: Spec, rows: list[Encoded]) -> list[dict[str, list[int]]]:
    """Return each packed row's examples, to be trained on as one padded batch."""
    settings = TrainConfig(max_steps=spec.num_steps)
    schedule = make_schedule(rows, settings, SAME_ROWS, pad_id=0)
    return [
        {
            "input_ids": row.input_ids[: row.num_tokens],
            "labels": row.labels[: row.num_tokens],
            "seq_lengths": row.seq_lengths[: len(row.examples)],
        }
        for row in schedule.rows
    ]


def _as_batch(items: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Lay the examples of one item out as `(examples, longest)` tensors with padding."""
    import torch

    (item,) = items
    lengths = item["seq_lengths"]
    parts = {name: torch.tensor(item[name]).split(lengths) for name in ("input_ids", "labels")}
    parts["attention_mask"] = tuple(torch.ones(length, dtype=torch.long) for length in lengths)
    padding = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            list(part), batch_first=True, padding_value=padding[name]
        )
        for name, part in parts.items()
    }


_READY: dict[str, Any] = {"dataset_kwargs": {"skip_prepare_dataset": True}}


class _TokenCounter:
    """Counts the real tokens of the batches a collator makes."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.num_batches = 0

    def around(self, collator: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(examples: Any) -> Any:
            self.num_tokens += sum(len(example["input_ids"]) for example in examples)
            self.num_batches += 1
            return collator(examples)

        return counted


def _trl_columns(row: Encoded, *, packed: bool) -> dict[str, list[int]]:
    if packed:
        mask = [int(label != IGNORED) for label in row.labels]
        return {"input_ids": row.input_ids, "completion_mask": mask}
    return {"input_ids": row.input_ids, "labels": row.labels}


def _peak_bytes() -> int:
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0


RUNNERS = {"edgesmith": run_edgesmith, "trl": run_trl}


def main(spec_file: Path, result_file: Path) -> int:
    """Run one contender as its specification says."""
    spec = msgspec.json.decode(spec_file.read_bytes(), type=Spec)
    rows = msgspec.json.decode(Path(spec.rows).read_bytes(), type=list[Encoded])
    try:
        timing = RUNNERS[spec.contender.split("-")[0]](spec, rows)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result_file.write_bytes(msgspec.json.encode(timing))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
