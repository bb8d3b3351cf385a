r"""Holds one answer to its constraint: which tokens may come, which one must, when it is over.

    text free ──trigger──▶ held ──source at its end──▶ over, or free again
                           from the start where there is no trigger

Knows no sampling: a sampler asks `allows` and `masked`, a lane tells what came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from serve.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.request import Constraint

Logits = npt.NDArray[np.float32]

TRIGGER_BYTES = 256  # that are looked at behind each token of free text


class ConstraintState:
    """Where one sequence stands in its constraint; the worker thread's own.

    `matcher` is a fresh llguidance matcher, `tokenizer` the one it was made with.
    """

    def __init__(self, constraint: Constraint, matcher: Any, tokenizer: Any) -> None:
        self._matcher: Any = matcher
        self._tokenizer = tokenizer
        self._mask = np.zeros((tokenizer.vocab_size + 31) // 32, np.int32)
        self._masked: Logits | None = None
        trigger = constraint.trigger
        self._trigger = None if trigger is None else re.compile(trigger.encode())
        self._once = constraint.once
        self._free = b""
        self._num_free_bytes = 0
        self.is_held = trigger is None
        self.is_over = False

    def allows(self, token_id: int) -> bool:
        """Say whether this token may come next; costs a microsecond."""
        if token_id in self._tokenizer.eos_tokens:
            return bool(self._matcher.is_accepting())
        return bool(self._matcher.validate_tokens([token_id]))

    def masked(self, logits: Logits) -> Logits:
        """Return `(n_vocab,) float32` logits in which what may not come is minus infinity.

        An end-of-generation token may come exactly where the source may end. The array is one of
        the state's own, overwritten by the next call: fresh memory would cost more than the mask.
        Raises: EngineError, when the source has grown beyond its limits.
        """
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8), count=len(logits), bitorder="little")
        if self._masked is None:
            self._masked = np.empty_like(logits)
        self._masked.fill(-np.inf)
        np.copyto(self._masked, logits, where=bits.view(np.bool_))
        return self._masked

    def accept(self, token_id: int, text: bytes) -> None:
        """Take a token that came, `text` being how it reads. Raises: EngineError."""
        if not self.is_held:
            self._watch(text)
        elif not self._matcher.consume_token(token_id):
            self._check()
        if self.is_held and self._matcher.is_stopped():
            self._end()

    def forced(self) -> Sequence[int]:
        """Return the tokens that must come next, whatever the model says; most often none."""
        if not self.is_held or self.is_over:
            return ()
        token_ids: list[int] = self._matcher.compute_ff_tokens()
        return token_ids

    def allowed_prefix(self, token_ids: Sequence[int]) -> int:
        """Count how many of these, a guess at what comes next, may come; free text takes all."""
        if not self.is_held:
            return len(token_ids)
        return int(self._matcher.validate_tokens(list(token_ids)))

    def _watch(self, text: bytes) -> None:
        """Look for the trigger where the new text may have completed it."""
        self._free += text
        self._num_free_bytes += len(text)
        assert self._trigger is not None  # invariant
        is_whole = self._num_free_bytes == len(self._free)
        found = self._trigger.search(self._free, 0 if is_whole else 1)
        if found is None:
            self._free = self._free[-TRIGGER_BYTES - len(text) :]
            return
        begun, self._free = self._free[found.end() :], b""
        self._hold(begun)

    def _hold(self, begun: bytes) -> None:
        """Constrain from here on; text that a token brought beyond the trigger is followed first.

        Where that text does not follow the source the model means something else: it stays free.
        """
        self._matcher.reset()
        token_ids = self._tokenizer.tokenize_bytes(begun)
        if self._matcher.validate_tokens(token_ids) == len(token_ids):
            self._matcher.consume_tokens(token_ids)
            self.is_held = True

    def _end(self) -> None:
        if self._trigger is None or self._once:
            self.is_over = True
        else:
            self.is_held = False

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineError(f"the constraint cannot go on: {self._matcher.get_error()}")
