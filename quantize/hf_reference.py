"""The Hugging Face side of a comparison: a folder's logits and greedy continuations, on the CPU.

Weights are widened to float32, so that what is compared is the files and not two roundings.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import SourceError


class HfModel:
    """Hold a causal language model; it decodes like a llama session."""

    def __init__(self, folder: Path) -> None:
        for noisy in ("torchao", "torch.utils._pytree"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)  # kernels of other processors
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise SourceError(f"transformers cannot load {folder}: {reason}") from error
        self._model.eval()
        self._model.generation_config = GenerationConfig(do_sample=False)
        self.n_vocab: int = self._model.config.vocab_size

    def reset(self) -> None:
        """Do nothing: each call starts from the first token."""

    def decode(
        self, token_ids: Sequence[int], *, first_logits: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the logits of a whole sequence from an index on, (rows, n_vocab)."""
        import torch

        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([list(token_ids)])).logits
        rows: npt.NDArray[np.float32] = logits[0, first_logits:].float().numpy()
        yield rows

    def greedy(self, token_ids: Sequence[int], count: int, stop_ids: Sequence[int]) -> list[int]:
        """Return up to `count` greedy tokens after a prompt, a stop token included."""
        import torch

        prompt = torch.tensor([list(token_ids)])
        with torch.inference_mode():
            whole = self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=False,
                eos_token_id=list(stop_ids),
                pad_token_id=stop_ids[0],
            )
        return [int(token) for token in whole[0, len(token_ids) :]]
