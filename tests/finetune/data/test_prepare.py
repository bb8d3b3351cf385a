"""Budget and length: what is kept, what is counted, what is refused."""

import pytest

from finetune.config import Config, DataConfig, TrainConfig
from finetune.data.examples import Dataset, conversation
from finetune.data.prepare import prepare
from finetune.errors import DataError


def dataset(lengths):
    examples = tuple(conversation(f"q{n}", "x " * size) for n, size in enumerate(lengths))
    return Dataset(ref="d", sha256="0", size_bytes=1, licence=None, examples=examples)


def config(length=64, **data):
    return Config(data=DataConfig(**data), train=TrainConfig(max_seq_length=length))


def test_the_token_budget_bounds_training(tiny_tokenizer):
    prepared = prepare(dataset([3] * 60), tiny_tokenizer, config(max_train_tokens=300))
    assert 200 < prepared.train.num_tokens <= 300


def test_no_budget_keeps_everything(tiny_tokenizer):
    prepared = prepare(dataset([3] * 60), tiny_tokenizer, config(max_train_tokens=0))
    assert len(prepared.train.encoded) + len(prepared.heldout.encoded) == 60


def test_long_examples_are_dropped_and_counted(tiny_tokenizer):
    prepared = prepare(dataset([3] * 30 + [500] * 5), tiny_tokenizer, config())
    figures = prepared.figures()
    assert (figures["num_too_long_examples"], figures["num_truncated_examples"]) == (5, 0)
    assert all(row.num_tokens <= 64 for row in prepared.train.encoded)


def test_truncated_examples_are_kept_and_counted(tiny_tokenizer):
    prepared = prepare(dataset([3] * 30 + [500] * 5), tiny_tokenizer, config(too_long="truncate"))
    assert prepared.figures()["num_truncated_examples"] == 5


@pytest.mark.parametrize("too_long", ["drop", "truncate"])
def test_answers_all_truncated_away_are_refused(tiny_tokenizer, too_long):
    with pytest.raises(DataError, match=r"longer than train.max_seq_length \(8 tokens\)"):
        prepare(dataset([3] * 10), tiny_tokenizer, config(length=8, too_long=too_long))
