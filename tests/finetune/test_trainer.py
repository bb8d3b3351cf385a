"""Out of memory halves the rows once; only whole checkpoints count."""

import pytest

from finetune import trainer
from finetune.config import TrainConfig
from finetune.data.prepare import Prepared, Side
from finetune.data.tokens import Encoded
from finetune.errors import TrainingError
from finetune.run import Run
from finetune.shaping import Decision
from finetune.steps import StepShape
from finetune.task import Task

torch = pytest.importorskip("torch")


@pytest.fixture
def task(tmp_path):
    side = Side(examples=(), encoded=(Encoded(id="a", input_ids=[1] * 40, labels=[1] * 40),))
    counts = dict.fromkeys(("num_found", "num_duplicates", "num_truncated", "num_too_long"), 0)
    return Task(
        fast_model=None,
        model=torch.nn.Linear(2, 2),
        tokenizer=None,
        prepared=Prepared(train=side, heldout=side, **counts),
        settings=TrainConfig(),
        run=Run(tmp_path),
    )


def decision(row_tokens):
    shape = StepShape(row_tokens=row_tokens, rows_per_step=1)
    return Decision(shape=shape, gradient_checkpointing=False)


def card_that_holds(limit, tried):
    """Stand in for training on a card where longer rows run out of memory half-way."""

    def train(task, decision, measure):
        tried.append(decision.shape)
        if decision.shape.row_tokens > limit:
            with torch.no_grad():
                task.model.weight.add_(1.0)
            raise torch.OutOfMemoryError
        return task.model.weight.clone()

    return train


def test_rows_are_halved_once_and_training_starts_from_the_fresh_adapter(task, monkeypatch, capsys):
    tried = []
    monkeypatch.setattr(trainer, "_train", card_that_holds(1_024, tried))
    fresh = task.model.weight.detach().clone()
    used, weight = trainer._train_halving(task, decision(2_048), None)
    assert tried[1] == used.shape == StepShape(row_tokens=1_024, rows_per_step=2)
    assert torch.equal(weight, fresh)
    assert "out of GPU memory at rows of 2,048 tokens" in capsys.readouterr().err
    assert task.run.events("step_shape")[-1]["row_tokens"] == 1_024


def test_a_second_shortage_is_an_error_that_says_what_to_lower(task, monkeypatch):
    monkeypatch.setattr(trainer, "_train", card_that_holds(0, []))
    with pytest.raises(TrainingError, match=r"rows of 1,024 tokens: lower train\.row_tokens"):
        trainer._train_halving(task, decision(2_048), None)
