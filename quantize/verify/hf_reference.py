"""The Hugging Face side of a comparison: a folder's logits, on the CPU.

It computes in float32, so that what is compared is the files and not two roundings; the weights
stay mapped in the type they are stored in.
"""

import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import SourceError
from quantize.verify.widened import widen


class HfModel:
    """Hold a causal language model; it decodes like a llama session."""

    def __init__(self, folder: Path) -> None:
        for noisy in ("torchao", "torch.utils._pytree"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)  # kernels of other processors
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=_stored_dtype(folder), local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise SourceError(f"transformers cannot load {folder}: {reason}") from error
        self._model.eval()
        widen(self._model, folder)
        parameters = inspect.signature(self._model.forward).parameters
        self._keeps_last = "logits_to_keep" in parameters
        self.n_vocab: int = self._model.config.vocab_size

    def reset(self) -> None:
        """Do nothing: each call starts from the first token."""

    def decode(
        self, token_ids: Sequence[int], *, first_logits: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the logits of a whole sequence from an index on, (rows, n_vocab)."""
        import torch

        count = len(token_ids) - first_logits
        wanted = {"logits_to_keep": count} if self._keeps_last else {}
        with torch.inference_mode():
            ids = torch.tensor([list(token_ids)])
            logits = self._model(input_ids=ids, use_cache=False, **wanted).logits
        rows: npt.NDArray[np.float32] = logits[0, -count:].float().numpy()
        yield rows


def _stored_dtype(folder: Path) -> Any:
    """Return the type that holds every weight of a folder exactly."""
    import torch
    from safetensors import safe_open

    found = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            found |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118  # no mapping
    only = found.pop() if len(found) == 1 else None
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(only or "", torch.float32)
