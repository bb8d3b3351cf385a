"""Mean loss per answer token on examples that are never trained on.

Knows a model only as something that gives logits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from finetune.data.tokens import IGNORED, Encoded
from finetune.libraries import half_precision

GPU_TOKENS_AT_ONCE = 4096  # their logits take 2 GB at 262k tokens of vocabulary


def response_loss_nats(model: Any, rows: Sequence[Encoded]) -> float:
    """Return the mean negative log-likelihood, in nats per learnt token over all rows.

    On a GPU it is computed as training does, so that before and after compare.
    """
    return sum(losses_nats(model, rows)) / sum(_num_predicted(row) for row in rows)


def losses_nats(
    model: Any,
    rows: Sequence[Encoded],
    *,
    tokens_at_once: int | None = None,
    show: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Return the negative log-likelihood of each row's learnt tokens, summed, in nats.

    Rows share a forward pass up to so many tokens, padding included; default: one row on a CPU,
    which gains nothing from more. `show` is told how many rows are done.
    """
    import torch

    if tokens_at_once is None:
        tokens_at_once = GPU_TOKENS_AT_ONCE if torch.device(model.device).type == "cuda" else 0
    was_training = model.training
    model.eval()
    losses: dict[int, float] = {}
    with torch.no_grad(), _precision(model):
        for batch in _batches(rows, tokens_at_once):
            found = _batch_losses(model, [rows[index] for index in batch])
            losses.update(zip(batch, found, strict=True))
            show(len(losses))
    model.train(was_training)
    return [losses[index] for index in range(len(rows))]


def _batches(rows: Sequence[Encoded], tokens_at_once: int) -> Iterator[list[int]]:
    """Yield positions of rows of about one length, which together keep to the limit."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: rows[index].num_tokens):
        if batch and (len(batch) + 1) * rows[index].num_tokens > tokens_at_once:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _num_predicted(row: Encoded) -> int:
    """Count the learnt tokens that have a token before them."""
    return sum(label != IGNORED for label in row.labels[1:])


def _precision(model: Any) -> AbstractContextManager[Any]:
    import torch

    if torch.device(model.device).type != "cuda":
        return nullcontext()
    mixed: AbstractContextManager[Any] = torch.autocast("cuda", dtype=half_precision())
    return mixed


def _batch_losses(model: Any, batch: Sequence[Encoded]) -> list[float]:
    """Return the summed loss of each row; position i predicts token i + 1.

    Rows are padded on the right, where no earlier position sees it, so no mask is needed.
    """
    import torch

    width = max(row.num_tokens for row in batch)
    padded = [row.input_ids + [0] * (width - row.num_tokens) for row in batch]
    logits = model(input_ids=torch.tensor(padded, device=model.device)).logits
    return [_row_loss(row_logits, row) for row_logits, row in zip(logits, batch, strict=True)]


def _row_loss(logits: Any, row: Encoded) -> float:
    import torch

    labels = torch.tensor(row.labels[1:], device=logits.device)
    learnt = labels != IGNORED
    loss = torch.nn.functional.cross_entropy(
        logits[: len(labels)][learnt].float(), labels[learnt], reduction="sum"
    )
    return float(loss)
