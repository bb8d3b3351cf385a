"""How much a model minds: weights changed in memory, and the distance of its answers measured.

A model is loaded once into memory of its own. For a probe some weights are replaced by what a type
would make of them, a short text is scored, and the weights are put back. No file is written.
"""

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantize.closing import Closing
from quantize.errors import LibraryError
from quantize.examples import ScoredText
from quantize.llama.ggml_codec import encode, rounded, row_bytes
from quantize.llama.ggml_tensor import (
    Float32,
    Tensor,
    ggml,
    node_callback,
    raise_failure,
    weight_name,
)
from quantize.llama.native import library
from quantize.llama.session import LlamaSession
from quantize.llama.weights import Slab, Weight
from quantize.perplexity import score, score_reference


class Probe(Closing):
    """Hold a writable model and its own logits on a text; use it in a `with`."""

    def __init__(
        self,
        model: Path,
        weights: Mapping[str, Weight],
        texts: Sequence[ScoredText],
        means: Mapping[str, Float32] | None,
    ) -> None:
        self._lib = ggml()
        self._weights = weights
        self._means = means or {}
        self._texts = texts
        self._places: dict[str, int] = {}
        self._callback = node_callback(library(), self._note, lambda _node: None)
        longest = max(len(text.prompt_token_ids) + len(text.response_token_ids) for text in texts)
        self._session = LlamaSession(
            model, n_ctx=longest, node_callback=self._callback, writable=True
        )
        _, self._reference = score_reference(self._session, texts)
        raise_failure(self._callback)

    def close(self) -> None:
        """Free the model and its logits."""
        self._reference.close()
        self._session.close()

    def mean_kld(self, types: Mapping[str, str]) -> float:
        """Return the mean divergence in nats with the named weights in other types."""
        for name, kind in types.items():
            self._write(name, functools.partial(self._rounded, name, kind))
        try:
            return float(score(self._session, self._texts, self._reference).mean_kld_nats or 0.0)
        finally:
            for name in types:
                self._write(name, lambda slab: slab.rows)

    def _note(self, node: Any) -> bool:
        """Remember where each weight lies; no node's result is wanted."""
        for place in node.contents.src[:2]:
            if place:
                name = weight_name(place)
                if name in self._weights:
                    self._places[name] = ctypes.addressof(place.contents)
        return False

    def _rounded(self, name: str, kind: str, slab: Slab) -> Float32:
        means = self._means.get(name)
        importance = None if means is None else means[slab.matrix]
        return rounded(kind, slab.rows, importance)

    def _write(self, name: str, change: Callable[[Slab], Float32]) -> None:
        weight, address = self._weights[name], self._places.get(name)
        if address is None:
            raise LibraryError(f"{name} takes no part in the model's computation")
        place, held = ctypes.cast(address, ctypes.POINTER(Tensor)), weight.tensor.type_name
        width = row_bytes(held, weight.num_columns)
        assert width is not None  # it lies in a file
        for slab in weight.slabs():
            raw = encode(held, change(slab))
            self._lib.ggml_backend_tensor_set(place, raw.ctypes.data, slab.start * width, raw.size)
