"""Perplexity of a model on scored texts, and its distance from a reference model's logits.

Streams: one chunk of rows at a time. The reference's logits are either made beside the other
model's, chunk by chunk, or lie in a file that has no name; what grows with the text is 40 bytes a
token.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from quantize.errors import SourceError
from quantize.examples import ScoredText
from quantize.progress import Draw, no_draw

Logits = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
_LOG_HALF = math.log(0.5)
_ROWS_AT_ONCE = 32


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
    num_decided_tokens: int | None = None
    """Tokens on which the reference gives its first choice at least half of the probability."""
    decided_top1_agreement: float | None = None
    """Agreement on those; elsewhere the first choice is nearly a matter of rounding."""
    perplexity_ratio: float | None = None
    perplexity_ratio_error: float | None = None
    """Standard error of the ratio, from the paired differences of each token's loss."""


class Reference(Protocol):
    """Give the reference's logits in order."""

    def rows(self, start: int, count: int) -> Logits:
        """Return `count` rows from index `start` on; called with rising starts."""


class StoredReference:
    """Keep a reference model's logits, (rows, n_vocab) float32, on disk while in use."""

    def __init__(self, num_rows: int, n_vocab: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        self._rows: Logits = np.memmap(
            self._file, dtype=np.float32, mode="w+", shape=(num_rows, n_vocab)
        )

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def keep(self, start: int, logits: Logits) -> None:
        """Store rows from `start` on."""
        self._rows[start : start + len(logits)] = logits

    def rows(self, start: int, count: int) -> Logits:
        """Return stored rows."""
        return self._rows[start : start + count]


class LiveReference:
    """Decode the reference beside the other model: both in the same chunks, nothing kept."""

    def __init__(self, model: Model, texts: Sequence[ScoredText]) -> None:
        self._chunks = _scored_rows(model, texts)

    def rows(self, start: int, count: int) -> Logits:
        """Return the next chunk, which has to be the one asked for."""
        found, logits, _ = next(self._chunks)
        assert (found, len(logits)) == (start, count)  # both decode with the same n_batch
        return logits


def num_scored(texts: Sequence[ScoredText]) -> int:
    """Return how many tokens are scored."""
    return sum(len(text.response_token_ids) for text in texts)


def score_reference(
    model: Model, texts: Sequence[ScoredText], on_rows: Draw = no_draw
) -> tuple[Quality, StoredReference]:
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
        on_rows(start + len(logits), num_rows)
    return _quality(np.concatenate(losses)), kept


def score_alone(model: Model, texts: Sequence[ScoredText], on_rows: Draw = no_draw) -> Quality:
    """Score a model on its own, keeping no logits."""
    losses, num_rows = [], num_scored(texts)
    for start, logits, targets in _scored_rows(model, texts):
        losses.append(_losses(_log_softmax(logits), targets))
        on_rows(start + len(logits), num_rows)
    return _quality(np.concatenate(losses))


def score(
    model: Model, texts: Sequence[ScoredText], reference: Reference, on_rows: Draw = no_draw
) -> Quality:
    """Score a model against the logits of a reference on the same texts."""
    losses, wanted, divergences, agreements, decided = [], [], [], [], []
    num_rows = num_scored(texts)
    for start, logits, targets in _scored_rows(model, texts):
        other = reference.rows(start, len(logits))
        log_q, log_p = _log_softmax(logits), _log_softmax(other)
        losses.append(_losses(log_q, targets))
        wanted.append(_losses(log_p, targets))
        divergences.append(np.sum(np.exp(log_p) * (log_p - log_q), axis=1))
        agreements.append(logits.argmax(axis=1) == other.argmax(axis=1))
        decided.append(log_p.max(axis=1) >= _LOG_HALF)
        on_rows(start + len(logits), num_rows)
    own, kld = np.concatenate(losses), np.maximum(np.concatenate(divergences), 0.0)
    worse = own - np.concatenate(wanted)
    agreed, clear = np.concatenate(agreements), np.concatenate(decided)
    ratio = float(np.exp(worse.mean()))
    return msgspec.structs.replace(
        _quality(own),
        mean_kld_nats=float(kld.mean()),
        p99_kld_nats=float(np.quantile(kld, 0.99)),
        max_kld_nats=float(kld.max()),
        top1_agreement=float(agreed.mean()),
        num_decided_tokens=int(clear.sum()),
        decided_top1_agreement=float(agreed[clear].mean()) if clear.any() else None,
        perplexity_ratio=ratio,
        perplexity_ratio_error=ratio * _standard_error(worse),
    )


def _scored_rows(
    model: Model, texts: Sequence[ScoredText]
) -> Iterator[tuple[int, Logits, npt.NDArray[np.int64]]]:
    """Yield (index of the first row, logits, target ids): the logits that predict each target.

    A few rows at once: what is computed from them takes eight times their bytes.
    """
    row = 0
    for text in texts:
        model.reset()
        targets = np.asarray(text.response_token_ids, dtype=np.int64)
        ids = [*text.prompt_token_ids, *text.response_token_ids[:-1]]
        done = 0
        for chunk in model.decode(ids, first_logits=len(text.prompt_token_ids) - 1):
            for start in range(0, len(chunk), _ROWS_AT_ONCE):
                logits = chunk[start : start + _ROWS_AT_ONCE]
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
    return Quality(
        num_scored_tokens=len(losses),
        perplexity=perplexity,
        perplexity_error=perplexity * _standard_error(losses),
    )


def _standard_error(values: Values) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
