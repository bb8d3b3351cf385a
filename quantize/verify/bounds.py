"""How far a quantized file may be from its f16: bounds by the type that holds most of its layers.

The bounds tell a damaged file from a coarse one; whether a coarse file is good enough is the
recommendation's question. They are several times what SmolLM2-135M, the most sensitive model at
hand, loses: mean KLD 0.002 nats in q8_0, 0.05 in q5_1, 0.19 in q4_0, the others in between or
beyond by the same factor. A permuted head or another rotary base costs whole nats or most of the
agreement. Agreement is counted where the f16 gives its first choice at least half of the
probability (q8_0 100%, q4_0 98% there); over few tokens, so it may fall short by twice its
standard error.
"""

import math
from collections import Counter

import msgspec

from quantize.llama.ggml_types import by_name
from quantize.llama.gguf_header import GgufHeader


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the limits for types of at least so many bits."""

    min_bits: float
    min_agreement: float
    max_mean_kld_nats: float

    def least_agreement(self, num_tokens: int) -> float:
        """Return the smallest agreement over so many tokens that is still within the bound."""
        share = self.min_agreement
        return share - 2 * math.sqrt(share * (1 - share) / max(num_tokens, 1))


BOUNDS = (
    Bound(min_bits=15, min_agreement=0.99, max_mean_kld_nats=0.005),
    Bound(min_bits=8, min_agreement=0.97, max_mean_kld_nats=0.03),
    Bound(min_bits=6, min_agreement=0.94, max_mean_kld_nats=0.10),
    Bound(min_bits=5, min_agreement=0.90, max_mean_kld_nats=0.25),
    Bound(min_bits=4, min_agreement=0.80, max_mean_kld_nats=0.80),
    Bound(min_bits=3, min_agreement=0.60, max_mean_kld_nats=2.0),
    Bound(min_bits=0, min_agreement=0.10, max_mean_kld_nats=8.0),
)


def bound_of(header: GgufHeader) -> tuple[str, Bound]:
    """Return the type that holds most parameters of a file's layers, and its bound."""
    layers = [tensor for tensor in header.tensors if tensor.name.startswith("blk.")]
    parameters: Counter[str] = Counter()
    for tensor in layers or header.tensors:
        parameters[tensor.type_name] += tensor.num_elements
    name = parameters.most_common(1)[0][0]
    stored = by_name(name)
    bits = stored.bits if stored else 0.0
    return name, next(bound for bound in BOUNDS if bits >= bound.min_bits)
