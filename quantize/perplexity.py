"""Perplexity of a model on scored texts, and its distance from a reference model's logits.

Streams: one chunk of rows at a time. The reference's logits lie in a file that has no name, so
memory does not grow with the text and nothing is left behind.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from quantize.errors import SourceError
from quantize.examples import ScoredText

Logits = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


class Model(Protocol):
    """Decode a sequence and give its logits."""

    n_vocab: int

    def reset(self) -> None:
        """Forget the sequence."""

    def decode(self, token_ids: Sequence[int], *, first_logits: int) -> Iterator[Logits]:
        """Append tokens and yield the logits from an index on, in chunks."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a file's logits say; distances are from the reference, null for itself."""

    num_scored_tokens: int
    perplexity: float
    perplexity_error: float
    """Standard error of the perplexity over tokens."""
    mean_kld_nats: float | None = None
    p99_kld_nats: float | None = None
    max_kld_nats: float | None = None
    top1_agreement: float | None = None
    perplexity_ratio: float | None = None


class StoredReference:
    """Keep a reference model's logits, (rows, n_vocab) float32, on disk while in use."""

    def __init__(self, num_rows: int, n_vocab: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        self._rows: Logits = np.memmap(
            self._file, dtype=np.float32, mode="w+", shape=(num_rows, n_vocab)
        )
        self.perplexity = 0.0

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def keep(self, start: int, logits: Logits) -> None:
        """Store rows from `start` on."""
        self._rows[start : start + len(logits)] = logits

    def rows(self, start: int, count: int) -> Logits:
        """Return stored rows."""
        return self._rows[start : start + count]


def num_scored(texts: Sequence[ScoredText]) -> int:
    """Return how many tokens are scored."""
    return sum(len(text.response_token_ids) for text in texts)


def score_reference(model: Model, texts: Sequence[ScoredText]) -> tuple[Quality, StoredReference]:
    """Score the reference and keep its logits; close them after use.

    Raises:
        SourceError: when there is nothing to score.
    """
    num_rows = num_scored(texts)
    if num_rows == 0:
        raise SourceError("nothing to score: no prompt fits within measure.max_example_tokens")
    kept = StoredReference(num_rows, model.n_vocab)
    losses = []
    for start, logits, targets in _scored_rows(model, texts):
        kept.keep(start, logits)
        losses.append(_losses(_log_softmax(logits), targets))
    quality = _quality(np.concatenate(losses))
    kept.perplexity = quality.perplexity
    return quality, kept


def score(model: Model, texts: Sequence[ScoredText], reference: StoredReference) -> Quality:
    """Score a model against the kept logits of a reference on the same texts."""
    losses, divergences, agreements = [], [], []
    for start, logits, targets in _scored_rows(model, texts):
        other = reference.rows(start, len(logits))
        log_q, log_p = _log_softmax(logits), _log_softmax(other)
        losses.append(_losses(log_q, targets))
        divergences.append(np.sum(np.exp(log_p) * (log_p - log_q), axis=1))
        agreements.append(logits.argmax(axis=1) == other.argmax(axis=1))
    plain, kld = _quality(np.concatenate(losses)), np.maximum(np.concatenate(divergences), 0.0)
    return msgspec.structs.replace(
        plain,
        mean_kld_nats=float(kld.mean()),
        p99_kld_nats=float(np.quantile(kld, 0.99)),
        max_kld_nats=float(kld.max()),
        top1_agreement=float(np.concatenate(agreements).mean()),
        perplexity_ratio=plain.perplexity / reference.perplexity,
    )


def _scored_rows(
    model: Model, texts: Sequence[ScoredText]
) -> Iterator[tuple[int, Logits, npt.NDArray[np.int64]]]:
    """Yield (index of the first row, logits, target ids): the logits that predict each target."""
    row = 0
    for text in texts:
        model.reset()
        targets = np.asarray(text.response_token_ids, dtype=np.int64)
        ids = [*text.prompt_token_ids, *text.response_token_ids[:-1]]
        done = 0
        for logits in model.decode(ids, first_logits=len(text.prompt_token_ids) - 1):
            yield row + done, logits, targets[done : done + len(logits)]
            done += len(logits)
        row += done


def _log_softmax(logits: Logits) -> Values:
    shifted: Values = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normaliser: Values = np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return shifted - normaliser


def _losses(log_probabilities: Values, targets: npt.NDArray[np.int64]) -> Values:
    picked: Values = np.take_along_axis(log_probabilities, targets[:, None], axis=1)[:, 0]
    return -1.0 * picked


def _quality(losses: Values) -> Quality:
    perplexity = float(np.exp(losses.mean()))
    spread = float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
    return Quality(
        num_scored_tokens=len(losses),
        perplexity=perplexity,
        perplexity_error=perplexity * spread,
    )
