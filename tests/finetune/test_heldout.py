"""The held-out loss is a mean over answer tokens of all rows."""

import math

import pytest

from finetune.data.tokens import Encoded
from finetune.heldout import losses_nats, response_loss_nats


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


class PreviousToken(UniformModel):
    """Likes the token it has just seen, the more the further on, and counts its calls."""

    calls = 0

    def __call__(self, input_ids):
        from types import SimpleNamespace

        import torch

        self.calls += 1
        likes = (
            torch.nn.functional.one_hot(input_ids, 4) * torch.arange(input_ids.shape[1])[:, None]
        )
        return SimpleNamespace(logits=likes.float())


def test_rows_share_a_forward_pass_and_keep_their_own_loss():
    rows = [
        Encoded(id="", input_ids=ids, labels=[-100, *ids[1:]])
        for ids in ([1, 1, 2, 3, 3], [2, 2], [0, 1, 1], [3, 0, 0, 0])
    ]
    alone, together = PreviousToken(), PreviousToken()
    done = []
    expected = losses_nats(alone, rows, tokens_at_once=0)
    assert losses_nats(together, rows, tokens_at_once=10, show=done.append) == pytest.approx(
        expected
    )
    assert (alone.calls, together.calls) == (4, 2)
    assert done == [2, 4]
