"""Collect an importance matrix: run tokens through a model, square what weights see.

Streams: a batch's activations are added up and dropped. Sums are kept in double precision, and
every few seconds in a file, so that a process killed anywhere goes on where it was and ends with
the same values.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from quantize.errors import ImatrixError
from quantize.imatrix.file import Entry
from quantize.llama.ggml_tensor import (
    ggml,
    node_callback,
    op_number,
    raise_failure,
    read_bytes,
    read_float32,
    weight_name,
)
from quantize.llama.native import library
from quantize.llama.session import LlamaSession

_CHECKPOINT_SECONDS = 5.0
_OUTPUTS = ("output.weight", "token_embd.weight")
"""What makes logits; the second where both ends share one matrix."""
_FLOAT32 = 0


class Sums:
    """Add up squared activations by weight."""

    def __init__(self) -> None:
        self.lib = ggml()
        self.sums: dict[str, npt.NDArray[np.float64]] = {}
        self.counts: dict[str, npt.NDArray[np.int64]] = {}
        self._dense, self._experts = op_number("MUL_MAT"), op_number("MUL_MAT_ID")

    def wants(self, node: Any) -> bool:
        """Say whether a node multiplies a weight by activations."""
        if node.contents.op not in {self._dense, self._experts}:
            return False
        weight, inputs = node.contents.src[0], node.contents.src[1]
        name = weight_name(weight)
        known = name.endswith(".weight") and (name.startswith("blk.") or name in _OUTPUTS)
        return known and inputs.contents.type == _FLOAT32

    def add(self, node: Any) -> None:
        """Add a node's inputs to its weight's sums."""
        weight = node.contents.src[0]
        values = read_float32(self.lib, node.contents.src[1])
        num_columns, num_matrices = weight.contents.ne[0], weight.contents.ne[2]
        name = weight_name(weight)
        if name not in self.sums:
            self.sums[name] = np.zeros((num_matrices, num_columns))
            self.counts[name] = np.zeros(num_matrices, dtype=np.int64)
        if node.contents.op == self._experts:
            self._add_routed(name, values[0], node.contents.src[2])
        else:
            self._add_dense(name, values, num_matrices)
        if not np.isfinite(self.sums[name]).all():
            raise ImatrixError(f"the activations at {name} are NaN or infinite; train again")

    def entries(self) -> dict[str, Entry]:
        """Return the collected entries."""
        return {
            name: Entry(sums=self.sums[name], counts=self.counts[name])
            for name in sorted(self.sums)
        }

    def _add_dense(self, name: str, values: npt.NDArray[np.float32], num_matrices: int) -> None:
        """Add (ne3, ne2, rows, columns); slice i of ne2 meets matrix i mod `num_matrices`."""
        for index in range(num_matrices):
            rows = values[:, index::num_matrices].reshape(-1, values.shape[-1])
            self.sums[name][index] += np.square(rows, dtype=np.float64).sum(axis=0)
            self.counts[name][index] += len(rows)

    def _add_routed(self, name: str, values: npt.NDArray[np.float32], chosen: Any) -> None:
        """Add (tokens, 1 or choices, columns), each to the experts its token was sent to."""
        num_tokens, num_choices = chosen.contents.ne[1], chosen.contents.ne[0]
        strides = (chosen.contents.nb[1], chosen.contents.nb[0])
        experts = np.ndarray(
            (num_tokens, num_choices),
            dtype=np.int32,
            buffer=read_bytes(self.lib, chosen),
            strides=strides,
        )
        squares = np.square(values, dtype=np.float64)
        for choice in range(num_choices):
            seen = squares[:, choice % squares.shape[1]]
            np.add.at(self.sums[name], experts[:, choice], seen)
            np.add.at(self.counts[name], experts[:, choice], 1)


class _Checkpoint:
    """Keep unfinished sums in one file, tied to what they are sums of."""

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path = path
        self.identity = identity
        self.written_at = time.monotonic()

    def load(self, sums: Sums) -> int:
        """Restore sums and return how many sequences they hold."""
        if self.path is None or not self.path.is_file():
            return 0
        with np.load(self.path) as kept:
            if str(kept["identity"]) != self.identity:
                return 0
            for key in kept.files:
                kind, _, name = key.partition(":")
                if kind == "sums":
                    sums.sums[name] = kept[key]
                    sums.counts[name] = kept[f"counts:{name}"]
            return int(kept["done"])

    def save(self, sums: Sums, done: int) -> None:
        """Write the sums in one step, not more often than every few seconds."""
        if self.path is None or time.monotonic() - self.written_at < _CHECKPOINT_SECONDS:
            return
        arrays: dict[str, Any] = {"identity": np.array(self.identity), "done": np.array(done)}
        for name, values in sums.sums.items():
            arrays[f"sums:{name}"] = values
            arrays[f"counts:{name}"] = sums.counts[name]
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        temporary.replace(self.path)
        self.written_at = time.monotonic()

    def remove(self) -> None:
        """Forget it once the result stands elsewhere."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the entries and how to forget the checkpoint they went through."""

    entries: dict[str, Entry]
    forget: Callable[[], None]


def collect(
    model: Path,
    sequences: Sequence[Sequence[int]],
    *,
    n_batch: int = 256,
    checkpoint: Path | None = None,
    identity: str = "",
    on_sequence: Callable[[int, int], None] | None = None,
) -> Collected:
    """Run token sequences through a GGUF, each from an empty context, and add up squares.

    `identity` names model and texts: a checkpoint of another one is not taken up.

    Raises:
        ImatrixError: for no sequences, or activations that are not finite.
    """
    if not sequences:
        raise ImatrixError("there is no text to collect an importance matrix on")
    sums, kept = Sums(), _Checkpoint(checkpoint, identity)
    begun = kept.load(sums)
    callback = node_callback(library(), sums.wants, sums.add)
    longest = max(map(len, sequences))
    with LlamaSession(model, n_ctx=longest, n_batch=n_batch, node_callback=callback) as session:
        for number, token_ids in enumerate(sequences[begun:], start=begun + 1):
            session.reset()
            for _ in session.decode(token_ids, first_logits=0):
                raise_failure(callback)  # all rows: else the last layer would see fewer
            kept.save(sums, number)
            if on_sequence is not None:
                on_sequence(number, len(sequences))
    return Collected(entries=sums.entries(), forget=kept.remove)
