"""The held-out loss is a mean over answer tokens of all rows."""

import math

import pytest

from finetune.data.tokens import Encoded
from finetune.heldout import response_loss_nats


class UniformModel:
    """Gives every one of four tokens the same chance."""

    training = True
    device = "cpu"

    def eval(self):
        self.training = False

    def train(self, mode):
        self.training = mode

    def __call__(self, input_ids):
        from types import SimpleNamespace

        import torch

        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 4))


def test_chance_costs_the_logarithm_of_the_choices():
    rows = [
        Encoded(id="a", input_ids=[0, 1, 2], labels=[-100, 1, 2]),
        Encoded(id="b", input_ids=[0, 3], labels=[-100, 3]),
    ]
    model = UniformModel()
    assert response_loss_nats(model, rows) == pytest.approx(math.log(4))
    assert model.training
