"""Bringing in the heavy training libraries, quietly, offline and in the order they need.

Unsloth patches transformers, trl and peft, so it is imported before them. Knows no configuration.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune.errors import BaseModelError, TrainingError
from finetune.home import cache_folder


def import_transformers() -> None:
    """Import transformers without its chatter, for reading weights and tokenizers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with quiet():
        import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


# With these, no step was logged on an H200 within two minutes until compiling was switched off;
# that it was compiling, for every length and layer anew, is inferred.
SLOW_TO_COMPILE = frozenset({"gemma3", "gemma3_text"})


def import_unsloth(architecture: str | None = None) -> Any:
    """Import Unsloth first and return its FastLanguageModel; nothing touches the hub from here on.

    Weights are a local folder by now. Unsloth's generated code goes to the user's cache. Whether it
    compiles is settled at its import, so the family of the base is to be known.

    Raises:
        TrainingError: Unsloth or what it needs is not installed, or does not load.
    """
    os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    if architecture in SLOW_TO_COMPILE:
        os.environ.setdefault("UNSLOTH_COMPILE_DISABLE", "1")
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_folder("unsloth_compiled_cache")))
    print("loading the training libraries", file=sys.stderr)
    try:
        with quiet():
            from unsloth import FastLanguageModel
    except (ImportError, RuntimeError, NotImplementedError) as error:
        raise TrainingError(
            f"Unsloth does not load ({error}); install the finetune extra, or on a CPU the pinned "
            "finetune/requirements-linux-cpu.txt"
        ) from error
    import datasets

    datasets.disable_progress_bars()
    import_transformers()
    return FastLanguageModel


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings about optional kernels, logged while libraries load."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def load_tokenizer(folder: str) -> Any:
    """Load the tokenizer of a model folder.

    Raises:
        BaseModelError: the folder holds none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(f"{folder} holds no usable tokenizer: {error}") from error
    if tokenizer.eos_token_id is None:
        raise BaseModelError(f"the tokenizer in {folder} names no end-of-text token")
    return tokenizer


def gpu_name() -> str | None:
    """Return the name of the GPU that will train, or None for the CPU."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def half_precision() -> Any:
    """Return the 16-bit type this GPU computes in: float16 on cards before Ampere, such as the T4.

    torch itself says yes to bfloat16 there, since it can emulate it, many times slower.
    """
    import torch

    is_native = torch.version.hip or torch.cuda.get_device_capability()[0] >= 8
    return torch.bfloat16 if is_native else torch.float16


def gpu_figures() -> dict[str, int]:
    """Return the GPU's peak memory, or nothing on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"peak_gpu_memory_bytes": int(torch.cuda.max_memory_allocated())}
