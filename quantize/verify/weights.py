"""Parity of weights: each tensor of a quantized file against the same rows of its reference.

A coarse type moves a model's answers further than a head in the wrong place does, so that answers
alone cannot tell one from the other. The weights can: rounding leaves a share of a row's energy,
another row leaves twice all of it. Four rows of every 32 are compared, so some of every head.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from quantize.llama.ggml_types import by_name
from quantize.llama.gguf_header import GgufHeader
from quantize.llama.weights import Weight, weights
from quantize.verify.bounds import bound_for
from quantize.verify.result import Check

_RUN = 4
_SAMPLED_SHARE = 1 / 8
_LEAST_ENERGY = 0.25
"""Rows are held to at least this share of the tensor's mean energy: some tokens' rows are empty."""


def compare_weights(reference: GgufHeader, other: GgufHeader) -> Check:
    """Compare every tensor; both files have the same ones."""
    hop, name = f"{reference.path.name} -> {other.path.name}", "weights"
    mine, worst = weights(reference), (0.0, "none", "")
    for key, held in weights(other).items():
        stored = by_name(held.tensor.type_name)
        assert stored is not None  # the header was read with this ggml
        limit, error = bound_for(stored.bits).max_weight_error, largest_error(mine[key], held)
        if not error <= limit:
            detail = (
                f"{key} ({held.tensor.type_name}): rows differ from the reference's by {error:.1%} "
                f"of their energy, rounding by at most {limit:.1%}"
            )
            return Check(hop=hop, name=name, passed=False, detail=detail)
        worst = max(worst, (error, key, held.tensor.type_name))
    detail = (
        f"{len(mine)} tensors; {worst[1]} ({worst[2]}) differs most, by {worst[0]:.1%} of energy"
    )
    return Check(hop=hop, name=name, passed=True, detail=detail)


def largest_error(reference: Weight, other: Weight) -> float:
    """Return the largest squared distance of four rows, as a share of the reference's squares."""
    sampled = np.concatenate(list(_compared(reference, other)), axis=1)
    lost, energy = sampled
    floor = max(_LEAST_ENERGY * float(energy.mean()), np.finfo(np.float64).tiny)
    return float((lost / np.maximum(energy, floor)).max())


def _compared(reference: Weight, other: Weight) -> Iterator[npt.NDArray[np.float64]]:
    """Yield (2, runs): squares of the difference, and of the reference."""
    for slab in other.sample(int(other.tensor.num_elements * _SAMPLED_SHARE)):
        rows = reference.read(slab.start, len(slab.rows))
        starts = np.arange(0, len(rows), _RUN)
        squares = [
            np.square(each, dtype=np.float64).sum(axis=1) for each in (rows - slab.rows, rows)
        ]
        yield np.stack([np.add.reduceat(each, starts) for each in squares])
