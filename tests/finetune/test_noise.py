"""Noise on embeddings: there while training, bounded by each example's length, gone afterwards."""

import json
import math
import subprocess
import sys

import pytest

from finetune.noise import EmbeddingNoise

torch = pytest.importorskip("torch")
SIZE = 16


class Model(torch.nn.Module):
    """Embeddings and nothing else, called as a trainer calls a model."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(8, SIZE)
        torch.nn.init.zeros_(self.embed.weight)

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, **_):
        return self.embed(input_ids).detach()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model().train()


def noise_of(model, shape, **given):
    with EmbeddingNoise(model, 5.0):
        return model(torch.zeros(shape, dtype=torch.long), **given).abs()


def bound(length):
    return 5.0 / math.sqrt(length * SIZE)


def assert_fills(noise, limit):
    assert noise.max() <= limit * 1.001
    assert noise.max() > limit * 0.8
    assert noise.mean() == pytest.approx(limit / 2, rel=0.2)


def test_each_example_of_a_packed_row_has_noise_of_its_own_length(model):
    lengths = torch.tensor([4, 60, 200], dtype=torch.int32)
    noise = noise_of(model, (1, 264), packed_seq_lengths=lengths)[0]
    for part, length in zip(noise.split([4, 60, 200]), (4, 60, 200), strict=True):
        assert_fills(part, bound(length))


def test_padding_does_not_weaken_the_noise_of_a_short_example(model):
    mask = torch.tensor([[1] * 100, [1] * 10 + [0] * 90])
    noise = noise_of(model, (2, 100), attention_mask=mask)
    assert_fills(noise[0], bound(100))
    assert_fills(noise[1], bound(10))


def test_a_plain_row_counts_all_its_tokens(model):
    assert_fills(noise_of(model, (1, 50)), bound(50))


def test_measuring_and_what_comes_after_training_see_no_noise(model):
    assert noise_of(model.eval(), (1, 5)).max() == 0
    model.train()
    assert noise_of(model, (1, 5)).max() > 0
    assert model(torch.zeros((1, 5), dtype=torch.long)).abs().max() == 0


def test_no_alpha_no_hook(model):
    with EmbeddingNoise(model, 0.0):
        assert model(torch.zeros((1, 5), dtype=torch.long)).abs().max() == 0


SCRIPT = """
import json, sys
from pathlib import Path
from finetune import libraries
fast_model = libraries.import_unsloth()
import torch
from finetune.config import Config, TrainConfig
from finetune.data.prepare import Prepared, Side
from finetune.data.tokens import Encoded
from finetune.model import load_model, set_checkpointing
from finetune.noise import EmbeddingNoise
from finetune.run import Run
from finetune.shaping import Decision
from finetune.steps import make_schedule, unpacked_shape
from finetune.task import Task
from finetune.trainer import make_trainer

base, folder = Path(sys.argv[1]), Path(sys.argv[2])
settings = TrainConfig(max_steps=1, grad_accumulation=1)
model = load_model(fast_model, base, Config(train=settings))
set_checkpointing(fast_model, model, enabled=False)
row = Encoded(id="a", input_ids=[60] * 50, labels=[60] * 50)
side = Side(examples=(), encoded=(row,))
counts = dict.fromkeys(("num_found", "num_duplicates", "num_truncated", "num_too_long"), 1)
task = Task(
    fast_model=fast_model,
    model=model,
    tokenizer=libraries.load_tokenizer(str(base)),
    prepared=Prepared(train=side, heldout=side, **counts),
    settings=settings,
    run=Run(folder),
)
shape = unpacked_shape(settings)
decision = Decision(shape=shape, gradient_checkpointing=False)
trainer = make_trainer(task, decision, make_schedule([row], settings, shape, pad_id=2))
table, seen = model.get_input_embeddings(), []
with EmbeddingNoise(model, 5.0):
    keep = lambda module, args, out: seen.append((out.detach() - module.weight[args[0]]).abs())
    table.register_forward_hook(keep)
    trainer.train()
    lengths = torch.tensor([4, 60], dtype=torch.int32)
    model.train()
    model(input_ids=torch.full((1, 64), 60), packed_seq_lengths=lengths)
unpacked, packed = seen[0][0], seen[-1][0]
print(json.dumps([float(part.max()) for part in (unpacked, packed[:4], packed[4:])]))
"""


@pytest.mark.slow
def test_unsloths_trainer_and_packed_rows_get_the_noise(tiny_model, tmp_path, command):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_model), str(tmp_path)],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    largest = json.loads(done.stdout.splitlines()[-1])
    for found, length in zip(largest, (50, 4, 60), strict=True):
        limit = 5.0 / math.sqrt(length * 32)
        assert limit * 0.8 < found <= limit * 1.001
