"""What each type would cost each weight: bytes, and the share of its output lost to rounding.

The error of a weight W rounded to W' on inputs x is E|(W - W')x|² over E|Wx|². With the inputs'
columns taken as uncorrelated that needs only their mean squares, which an importance matrix holds:

    error = Σ a_j (w_ij - w'_ij)² / Σ a_j w_ij²,   a_j = mean square of input column j

It says how well a type renders a weight, not how much the model minds: that is measured elsewhere.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from quantize.errors import ConfigError
from quantize.llama import ggml_types
from quantize.llama.ggml_codec import decode, encode, needs_importance, row_bytes
from quantize.llama.ggml_tensor import Float32
from quantize.llama.weights import Weight
from quantize.machine import num_cores

CANDIDATES = (
    "iq1_s", "iq2_xxs", "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "iq3_s", "q3_k", "iq4_xs", "iq4_nl",
    "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0", "f16",
)  # fmt: skip
"""Ternary and 4-bit float types are left out: they are made for weights trained in them."""
_NEED_IMPORTANCE = ("iq3_xxs",)
"""ggml writes it without importances; llama.cpp refuses to."""
_SAMPLED_ELEMENTS = 32_768


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one type's cost for one weight."""

    type_name: str
    num_bytes: int
    error: float
    """Share of the output's energy, 0 to about 1."""


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one weight's options, by growing bytes."""

    name: str
    num_elements: int
    options: tuple[Option, ...]

    def option(self, type_name: str) -> Option | None:
        """Return a type's option, or None where it does not fit."""
        return next((entry for entry in self.options if entry.type_name == type_name), None)


def weigh(
    weights: Sequence[Weight],
    types: Sequence[str],
    means: Mapping[str, Float32] | None,
    on_weight: Callable[[int, int], None] | None = None,
) -> list[Weighed]:
    """Return every weight's options on a sample of its rows, the same for the same input."""
    known = means or {}

    def one(weight: Weight) -> Weighed:
        return _weigh(weight, types, known.get(weight.tensor.name))

    found = []
    with ThreadPoolExecutor(num_cores()) as pool:
        for done, weighed in enumerate(pool.map(one, weights), start=1):
            found.append(weighed)
            if on_weight is not None:
                on_weight(done, len(weights))
    return found


def require_types(names: Iterable[str]) -> tuple[str, ...]:
    """Return tensor types as given.

    Raises:
        ConfigError: for a type that is unknown or not among those searched.
    """
    chosen = tuple(name.strip().lower() for name in names)
    for name in chosen:
        if name not in CANDIDATES or ggml_types.by_name(name) is None:
            raise ConfigError(f"unknown tensor type {name!r}; known: {', '.join(CANDIDATES)}")
    return chosen


def offered(type_name: str, num_columns: int, *, has_importance: bool) -> int | None:
    """Return the bytes of a row, or None where rows or the lack of importances forbid the type."""
    needy = type_name in _NEED_IMPORTANCE or needs_importance(type_name)
    return row_bytes(type_name, num_columns) if has_importance or not needy else None


def _weigh(weight: Weight, types: Sequence[str], importance: Float32 | None) -> Weighed:
    slabs = list(weight.sample(_SAMPLED_ELEMENTS))
    options = []
    for name in types:
        width = offered(name, weight.num_columns, has_importance=importance is not None)
        if width is not None:
            lost = kept = 0.0
            for slab in slabs:
                scale = None if importance is None else importance[slab.matrix]
                rounded = decode(name, encode(name, slab.rows, scale), weight.num_columns)
                lost += _energy(slab.rows - rounded, scale)
                kept += _energy(slab.rows, scale)
            error = lost / kept if kept > 0 else 0.0
            size = width * weight.num_rows
            options.append(Option(type_name=name, num_bytes=size, error=error))
    return Weighed(
        name=weight.tensor.name,
        num_elements=weight.tensor.num_elements,
        options=tuple(sorted(options, key=lambda option: (option.num_bytes, option.error))),
    )


def _energy(rows: Float32, scale: Float32 | None) -> float:
    squares = np.square(rows, dtype=np.float64).sum(axis=0)
    return float(squares.sum() if scale is None else squares @ scale.astype(np.float64))
