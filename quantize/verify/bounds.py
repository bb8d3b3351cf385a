"""How far a quantized file may be from its f16: bounds by the bits of a type.

Weights tell a damaged file from a coarse one (`weights.py`). Rounding leaves at most this share of
the energy of four rows, over layers of SmolLM2-135M, Gemma 3 270M, Qwen2.5-Coder-1.5B and
heavy-tailed random rows, with and without an importance matrix: 0.0001 in q8_0, 0.0012 in q6_k,
0.0029 in q5_1, 0.012 at 5 bits, 0.024 at 4, 0.10 at 3; below up to 0.45 and, for ternary types,
0.73. A permuted head or a swapped layer leaves 2 and more, of a ternary file above 1.

Logits are a second net, for what the weights do not show: several times what SmolLM2-135M, the most
sensitive model at hand, loses; the coarsest type that holds a tenth of the layers counts. One head
in one layer costs that model less than q4_0 does. Agreement is counted where the f16 gives its
first choice at least half of the probability; over few tokens, so it may fall short by twice its
standard error. Whether a coarse file is good enough is the recommendation's question.
"""

import math
from collections import Counter

import msgspec

from quantize.llama.ggml_types import by_name
from quantize.llama.gguf_header import GgufHeader

_NOTEWORTHY = 0.1
"""Share of the layers' parameters from which on a type counts."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the limits for types of at least so many bits."""

    min_bits: float
    min_agreement: float
    max_mean_kld_nats: float
    max_weight_error: float
    """Squared distance of a tensor's rows from the reference's, over the reference's squares."""

    def least_agreement(self, num_tokens: int) -> float:
        """Return the smallest agreement over so many tokens that is still within the bound."""
        share = self.min_agreement
        return share - 2 * math.sqrt(share * (1 - share) / max(num_tokens, 1))


BOUNDS = (
    Bound(min_bits=15, min_agreement=0.99, max_mean_kld_nats=0.005, max_weight_error=0.001),
    Bound(min_bits=8, min_agreement=0.97, max_mean_kld_nats=0.03, max_weight_error=0.001),
    Bound(min_bits=6, min_agreement=0.94, max_mean_kld_nats=0.1, max_weight_error=0.01),
    Bound(min_bits=5, min_agreement=0.90, max_mean_kld_nats=0.25, max_weight_error=0.05),
    Bound(min_bits=4, min_agreement=0.80, max_mean_kld_nats=0.8, max_weight_error=0.1),
    Bound(min_bits=3, min_agreement=0.60, max_mean_kld_nats=2.0, max_weight_error=0.3),
    Bound(min_bits=0, min_agreement=0.10, max_mean_kld_nats=8.0, max_weight_error=1.0),
)


def bound_for(bits: float) -> Bound:
    """Return the bound of a type of so many bits per weight."""
    return next(bound for bound in BOUNDS if bits >= bound.min_bits)


def bound_of(header: GgufHeader) -> tuple[str, Bound]:
    """Return the coarsest type that holds a noteworthy part of a file's layers, and its bound."""
    layers = [tensor for tensor in header.tensors if tensor.name.startswith("blk.")]
    parameters: Counter[str] = Counter()
    for tensor in layers or header.tensors:
        parameters[tensor.type_name] += tensor.num_elements
    least = _NOTEWORTHY * parameters.total()
    bits = {name: _bits(name) for name, held in parameters.items() if held >= least}
    coarsest = min(bits, key=lambda name: bits[name])
    return coarsest, bound_for(bits[coarsest])


def _bits(type_name: str) -> float:
    stored = by_name(type_name)
    assert stored is not None  # the header was read with this ggml
    return stored.bits
