"""Direct preference optimisation with TRL: the preferred answer gains on the rejected one.

    loss = -log sigmoid(beta * gain)
    gain = log odds of chosen over rejected now, minus those at the start

The odds at the start are those of the adapter that training begins with; they are computed once,
so no second copy of the adapter is held or saved. Knows pairs, no files.

Source: Rafailov et al. 2023, "Direct Preference Optimization", equation 7.
"""

import math
from collections.abc import Sequence
from typing import Any

from finetune.data.preferences import Pair
from finetune.heldout import losses_nats
from finetune.progress import counting

Likelihoods = list[tuple[float, float]]


def log_likelihoods(model: Any, pairs: Sequence[Pair]) -> Likelihoods:
    """Return each pair's log-likelihoods of chosen and rejected answer, in nats."""
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    show = counting("answers weighed before the first step", len(answers))
    losses = losses_nats(model, answers, show=show)
    chosen, rejected = losses[: len(pairs)], losses[len(pairs) :]
    return [(-one, -other) for one, other in zip(chosen, rejected, strict=True)]


def gains_nats(before: Likelihoods, now: Likelihoods) -> list[float]:
    """Return by how much the log odds of chosen over rejected have grown, pair by pair."""
    return [(new[0] - new[1]) - (old[0] - old[1]) for old, new in zip(before, now, strict=True)]


def preference_loss_nats(gains: Sequence[float], beta: float) -> float:
    """Return the mean loss; ln 2 where nothing has been gained."""
    losses = [math.log1p(math.exp(-abs(beta * g))) + max(0.0, -beta * g) for g in gains]
    return sum(losses) / len(losses)


class HeldoutPreferences:
    """Held-out pairs and how likely their answers were when training began."""

    def __init__(self, model: Any, pairs: Sequence[Pair], beta: float) -> None:
        self.model = model
        self.pairs = pairs
        self.beta = beta
        self.reference = log_likelihoods(model, pairs)

    def loss_nats(self) -> float:
        """Return the loss of the model as it is now."""
        gains = gains_nats(self.reference, log_likelihoods(self.model, self.pairs))
        return preference_loss_nats(gains, self.beta)

    def figures(self) -> dict[str, float]:
        """Return what the manifest says: loss, gain, and how often chosen is the likelier."""
        now = log_likelihoods(self.model, self.pairs)
        gains = gains_nats(self.reference, now)
        return {
            "heldout_preference_loss_before_nats": math.log(2),
            "heldout_preference_loss_after_nats": preference_loss_nats(gains, self.beta),
            "heldout_preference_gain_nats": sum(gains) / len(gains),
            "heldout_preferred_rate_before": _preferred_rate(self.reference),
            "heldout_preferred_rate_after": _preferred_rate(now),
        }


def _preferred_rate(likelihoods: Likelihoods) -> float:
    return sum(chosen > rejected for chosen, rejected in likelihoods) / len(likelihoods)


def make_preference_trainer(
    model: Any, tokenizer: Any, arguments: Any, pairs: Sequence[Pair], order: Sequence[int]
) -> Any:
    """Return TRL's trainer over pairs in an order."""
    from datasets import Dataset
    from trl import DPOTrainer

    class Trainer(DPOTrainer):  # type: ignore[misc]  # trl is untyped here
        """Takes rows as they come: tokenized, in order, with their reference."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    used = sorted(set(order))  # a few steps need few of many pairs
    weighed = log_likelihoods(model, [pairs[index] for index in used])
    reference = dict(zip(used, weighed, strict=True))
    rows = [_columns(pairs[index], reference[index]) for index in order]
    trainer = Trainer(
        model=model,
        args=arguments,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
    )
    if "ref" in model.peft_config:  # TRL's copy of the adapter, which the reference makes needless
        model.delete_adapter("ref")
    return trainer


def _columns(pair: Pair, reference: tuple[float, float]) -> dict[str, Any]:
    return {
        "prompt_ids": pair.prompt_ids,
        "chosen_ids": pair.chosen_ids,
        "rejected_ids": pair.rejected_ids,
        "ref_chosen_logps": reference[0],
        "ref_rejected_logps": reference[1],
    }
