"""Noise on token embeddings while training (NEFTune), scaled by each example's own length.

    row:     | example 1 | example 2 | padding |
    scale      a/sqrt(n1 d)  a/sqrt(n2 d)           n tokens of d numbers each

Hooks of the libraries scale by the row, which for a packed row of thirty thousand tokens leaves
almost no noise. Knows modules and hooks, no trainer.

Source: Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning", algorithm 1.
"""

import math
from types import TracebackType
from typing import Any, Self


class EmbeddingNoise:
    """While open, a model in training mode sees noisy embeddings; an alpha of 0 changes nothing."""

    def __init__(self, model: Any, alpha: float) -> None:
        self.model = model
        self.alpha = alpha
        self._lengths: Any = None
        self._mask: Any = None
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        if self.alpha:
            embeddings = self.model.get_input_embeddings()
            self._hooks = [
                self.model.register_forward_pre_hook(self._note, with_kwargs=True),
                embeddings.register_forward_hook(self._add),
            ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _note(self, _model: Any, _args: Any, given: dict[str, Any]) -> None:
        """Keep what says where examples end, which the embeddings do not hear of."""
        self._lengths = given.get("packed_seq_lengths")
        self._mask = given.get("attention_mask")

    def _add(self, module: Any, _args: Any, embedded: Any) -> Any:
        import torch

        if not module.training:
            return embedded
        with torch.no_grad():
            noise = torch.empty_like(embedded).uniform_(-1, 1)
            noise *= self._scale(embedded).to(embedded.dtype)
        return embedded + noise

    def _scale(self, embedded: Any) -> Any:
        """Return the noise's bound for every token, `(batch or 1, tokens or 1, 1)`."""
        import torch

        num_rows, num_tokens, size = embedded.shape
        if self._lengths is not None:
            lengths = self._lengths.to(embedded.device)
            bounds = self.alpha / (lengths.float() * size).sqrt()
            return torch.repeat_interleave(bounds, lengths, output_size=num_tokens)[None, :, None]
        if self._mask is not None and self._mask.shape == (num_rows, num_tokens):
            lengths = self._mask.sum(dim=1).clamp(min=1).to(embedded.device)
            return (self.alpha / (lengths.float() * size).sqrt())[:, None, None]
        bound = self.alpha / math.sqrt(num_tokens * size)
        return torch.full((1, 1, 1), bound, device=embedded.device)
