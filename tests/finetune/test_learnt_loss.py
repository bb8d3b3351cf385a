"""Skipping tokens without loss changes neither the loss nor its gradient."""

import pytest

from finetune.data.tokens import IGNORED
from finetune.learnt_loss import MULTIPLE, learnt_only

torch = pytest.importorskip("torch")


def plain_loss(*, hidden_states, labels, shift_labels, weight, seen):
    seen.append(hidden_states.shape[1])
    logits = hidden_states @ weight.T
    if shift_labels:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
    )


def both(num_tokens, num_rows=1):
    torch.manual_seed(0)
    hidden = torch.randn(num_rows, num_tokens, 8, requires_grad=True)
    weight = torch.randn(32, 8)
    labels = torch.randint(0, 32, (num_rows, num_tokens))
    labels[:, : num_tokens // 2] = IGNORED
    results, seen = [], []
    for function in (plain_loss, learnt_only(plain_loss)):
        value = function(
            hidden_states=hidden, labels=labels, shift_labels=True, weight=weight, seen=seen
        )
        results.append((value, torch.autograd.grad(value, hidden)[0]))
    return results, seen


@pytest.mark.parametrize("num_tokens", [64, 4 * MULTIPLE])
def test_loss_and_gradient_are_those_of_all_tokens(num_tokens):
    ((plain, plain_gradient), (ours, gradient)), _ = both(num_tokens)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(gradient, plain_gradient)


def test_only_learnt_tokens_reach_the_output_layer():
    _, (all_tokens, learnt) = both(4 * MULTIPLE)
    assert (all_tokens, learnt) == (4 * MULTIPLE, 2 * MULTIPLE)


def test_several_rows_are_left_as_they_are():
    ((plain, _), (ours, _)), seen = both(64, num_rows=2)
    assert torch.equal(plain, ours)
    assert seen == [64, 64]
