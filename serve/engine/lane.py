"""What the worker keeps beside a sequence: its sampler, its text, its reader.

Turns a row of logits into a token and a token into events. Knows no seats and no batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from serve.engine.detokenizer import TextStream
from serve.engine.logprobs import drawn_logprob, token_logprob
from serve.engine.prefix import common_prefix_length
from serve.engine.request import (
    Finished,
    FinishReason,
    Progress,
    TextDelta,
    Timings,
    TokenLogprob,
)
from serve.engine.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from serve.engine.batch import Span
    from serve.engine.constraint import ConstraintState
    from serve.engine.drafts import Drafter
    from serve.engine.generation import Generation
    from serve.engine.healing import Healing

    Logits = npt.NDArray[np.float32]


class Words(Protocol):
    """What a lane asks of a vocabulary."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return a token by name."""

    def text_bytes(self, token_id: int) -> bytes:
        """Return what a token adds to the text."""


class Lane:
    """One sequence in the worker's hands."""

    def __init__(
        self,
        generation: Generation,
        vocabulary: Words,
        end_token_ids: frozenset[int],
        constraint: ConstraintState | None = None,
        drafter: Drafter | None = None,
        *,
        healing: Healing | None = None,
    ) -> None:
        request = generation.sequence.request
        self._healing = healing
        self.drafter = drafter
        self.generation = generation
        self.sequence = generation.sequence
        self._vocabulary = vocabulary
        self._end_token_ids = end_token_ids
        self._constraint = constraint
        self._sampler: Sampler | None = None
        self._stream = TextStream(request.stop)
        self._text = ""
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._prompt_logprobs: list[TokenLogprob] = []

    def open(self) -> None:
        """Create the sampler. A request that ignores the end never samples it."""
        request = self.sequence.request
        banned = self._end_token_ids if request.ignore_eos else ()
        self._sampler = Sampler(
            request.sampling,
            prompt_token_ids=request.prompt_token_ids,
            banned_token_ids=banned,
            constraint=self._constraint,
        )

    def close(self) -> None:
        """Free the sampler."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def advance(self, logits: npt.NDArray[np.float32]) -> FinishReason | None:
        """Sample the next token and say whether it was the last, and why.

        `logits` is `(n_vocab,) float32`, a view that dies with the next decode.
        """
        if self.sequence.limit_reached():
            return FinishReason.LENGTH
        assert self._sampler is not None  # opened before it is planned
        healing = self._healing
        offered = logits if healing is None or healing.is_over else healing.masked(logits)
        reason = self._take(self._sampler.sample(offered), logits)
        return self._take_forced(self._sampler) if reason is None else reason

    def _take(self, token_id: int, logits: Logits | None = None) -> FinishReason | None:
        """Add a token to the answer; without `logits` it was not chosen among others."""
        self.sequence.append(token_id)
        self._token_ids.append(token_id)
        if token_id in self._end_token_ids:
            return FinishReason.STOP
        if self._constraint is not None:
            self._constraint.accept(token_id, self._vocabulary.token_bytes(token_id))
        if logits is not None:
            self._note_logprob(logits, token_id)
        data = self._vocabulary.text_bytes(token_id)
        self._text += self._stream.push(data if self._healing is None else self._healing.take(data))
        if self._stream.stop_text is not None or self._is_constraint_over():
            return FinishReason.STOP
        return FinishReason.LENGTH if self.sequence.limit_reached() else None

    def verify(
        self, span: Span, first_row: int, logits_of: Callable[[int], npt.NDArray[np.float32]]
    ) -> tuple[int, FinishReason | None]:
        """Sample after a span and on along its draft, as long as the draft comes true.

        Every token is sampled from the logits of its own row as if it were alone, so a draft never
        changes what is said: a guess that would have been drawn anyway is the only one that counts.
        Returns how much of the draft came true, and why the sequence ended, if it did.
        """
        token_ids, num_true = self.sequence.token_ids, 0
        while True:
            reason = self.advance(logits_of(first_row + num_true))
            said = tuple(token_ids[span.stop : span.stop + len(span.draft)])
            num_true = common_prefix_length(said, span.draft)
            if reason is not None or num_true < len(token_ids) - span.stop:
                return num_true, reason

    def _is_constraint_over(self) -> bool:
        return self._constraint is not None and self._constraint.is_over

    def _take_forced(self, sampler: Sampler) -> FinishReason | None:
        """Add what the constraint leaves no choice about; it is read together in the next step.

        Logprobs want every token's own row, so then each is sampled as the others are.
        """
        if self._constraint is None or self.sequence.request.sampling.logprobs is not None:
            return None
        for token_id in self._constraint.forced():
            sampler.accept(token_id)
            reason = self._take(token_id)
            if reason is not None:
                return reason
        return None

    def _note_logprob(self, logits: npt.NDArray[np.float32], token_id: int) -> None:
        sampling, name = self.sequence.request.sampling, self._vocabulary.token_bytes
        if sampling.logprobs is None:
            return
        if sampling.post_sampling:
            assert self._sampler is not None  # it has just drawn the token
            chances = self._sampler.chances()
            self._logprobs.append(drawn_logprob(chances, token_id, sampling.logprobs, name))
        else:
            self._logprobs.append(token_logprob(logits, token_id, sampling.logprobs, name))

    def score(self, position: int, logits: Logits) -> None:
        """Note the logprob of the prompt's token at `position`, which these logits foresaw."""
        sequence = self.sequence
        num_top = sequence.request.prompt_logprobs
        assert num_top is not None  # what was planned to be scored was asked for
        assert position == sequence.num_scored  # invariant: in order, none twice
        token_id, name = sequence.token_ids[position], self._vocabulary.token_bytes
        self._prompt_logprobs.append(token_logprob(logits, token_id, num_top, name))
        sequence.num_scored += 1

    def take_delta(self, *, is_last: bool = False) -> TextDelta | None:
        """Return what became certain since the last delta; None when that is no text."""
        if is_last:
            self._text += self._stream.flush()
        has_ids = is_last and self._token_ids
        if not (self._text or has_ids or self._prompt_logprobs):
            return None
        delta = TextDelta(
            self._text,
            tuple(self._token_ids),
            tuple(self._logprobs),
            tuple(self._prompt_logprobs),
            self.progress() if self.sequence.request.reports_progress else None,
        )
        self._text, self._token_ids, self._logprobs = "", [], []
        self._prompt_logprobs = []
        return delta

    def progress(self) -> Progress:
        """Describe how far a seated sequence has come."""
        sequence = self.sequence
        began = sequence.seated_at if sequence.seated_at is not None else sequence.queued_at
        read = min(sequence.num_computed, sequence.num_prompt_tokens)
        first, last = sequence.first_token_at, sequence.last_token_at
        seconds = Timings(
            queue_seconds=began - sequence.queued_at,
            prompt_seconds=max((first or sequence.served_at) - began, 0.0),
            predicted_seconds=(last or 0.0) - (first or 0.0),
        )
        return Progress(
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached_tokens,
            num_read_tokens=max(read - sequence.num_cached_tokens, 0),
            num_completion_tokens=sequence.num_output_tokens,
            timings=seconds,
            num_draft_tokens=sequence.num_draft_tokens,
            num_accepted_tokens=sequence.num_accepted_tokens,
        )

    def finished(self, error: str | None) -> Finished:
        """Describe the end of a finished sequence."""
        sequence, drafter = self.sequence, self.drafter
        assert sequence.finish_reason is not None  # invariant
        if drafter is not None:
            drafter.follow()
        return Finished(
            reason=sequence.finish_reason,
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached_tokens,
            num_completion_tokens=sequence.num_output_tokens,
            timings=self._timings(),
            num_predicted_tokens=0 if drafter is None else drafter.num_predicted,
            num_unpredicted_tokens=0 if drafter is None else drafter.num_unused,
            num_draft_tokens=sequence.num_draft_tokens,
            num_accepted_tokens=sequence.num_accepted_tokens,
            stop_text=self._stream.stop_text,
            error=error,
        )

    def _timings(self) -> Timings:
        """Split the time at seat and first token; a step never reached took none."""
        sequence = self.sequence
        end = sequence.finished_at if sequence.finished_at is not None else sequence.queued_at
        seated = sequence.seated_at if sequence.seated_at is not None else end
        first = sequence.first_token_at if sequence.first_token_at is not None else end
        return Timings(
            queue_seconds=seated - sequence.queued_at,
            prompt_seconds=first - seated,
            predicted_seconds=end - first,
        )
