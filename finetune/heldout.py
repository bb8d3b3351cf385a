"""Mean loss per answer token on examples that are never trained on.

Knows a model only as something that gives logits.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from finetune.data.tokens import IGNORED, Encoded
from finetune.libraries import half_precision


def response_loss_nats(model: Any, rows: Sequence[Encoded]) -> float:
    """Return the mean negative log-likelihood, in nats per learnt token over all rows.

    On a GPU it is computed as training does, so that before and after compare.
    """
    return sum(losses_nats(model, rows)) / sum(_num_predicted(row) for row in rows)


def losses_nats(model: Any, rows: Sequence[Encoded]) -> list[float]:
    """Return the negative log-likelihood of each row's learnt tokens, summed, in nats."""
    import torch

    was_training = model.training
    model.eval()
    with torch.no_grad(), _precision(model):
        losses = [_row_loss(model, row) for row in rows]
    model.train(was_training)
    return losses


def _num_predicted(row: Encoded) -> int:
    """Count the learnt tokens that have a token before them."""
    return sum(label != IGNORED for label in row.labels[1:])


def _precision(model: Any) -> AbstractContextManager[Any]:
    import torch

    if torch.device(model.device).type != "cuda":
        return nullcontext()
    mixed: AbstractContextManager[Any] = torch.autocast("cuda", dtype=half_precision())
    return mixed


def _row_loss(model: Any, row: Encoded) -> float:
    """Return the summed loss of one row; position i predicts token i + 1."""
    import torch

    device = model.device
    logits = model(input_ids=torch.tensor([row.input_ids], device=device)).logits[0, :-1]
    labels = torch.tensor(row.labels[1:], device=device)
    learnt = labels != IGNORED
    loss = torch.nn.functional.cross_entropy(
        logits[learnt].float(), labels[learnt], reduction="sum"
    )
    return float(loss)
