"""What the worker asks of a model: the seam between scheduling and llama.cpp.

`Model` fills it with a llama context, the tests with a fake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from serve.engine.batch import Batch, Outcome
    from serve.engine.prefix import State


class Abort(Protocol):
    """A flag that stops a running decode."""

    def raise_(self) -> None:
        """Stop it; any thread."""

    def lower(self) -> None:
        """Let decodes run."""


class Decoder(Protocol):
    """What the worker asks of a model; `Model` and the tests' fake have it."""

    @property
    def abort(self) -> Abort:
        """Return the flag that stops this model's decodes."""

    @property
    def can_trim(self) -> bool:
        """Say whether cells can be cut anywhere."""

    @property
    def can_trim_restored(self) -> bool:
        """Say whether that also holds for cells that came back by `restore`."""

    def decode(self, batch: Batch) -> Outcome:
        """Compute a batch. Raises: DecodeError."""

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """Return a view of a row's logits, valid until the next decode."""

    def trim(self, seq_id: int, start: int) -> None:
        """Drop the cells from `start` on."""

    def copy(self, source: int, target: int, stop: int) -> None:
        """Share the first `stop` cells with an empty sequence."""

    def end_position(self, seq_id: int) -> int:
        """Return how many positions have cells."""

    def state_bytes(self, seq_id: int) -> int:
        """Return the size of what `save` would return."""

    def save(self, seq_id: int) -> State:
        """Return a copy of a sequence's cells. Raises: DecodeError."""

    def restore(self, seq_id: int, state: State) -> bool:
        """Put saved cells into an empty sequence; False when there are not enough free ones."""
