"""Make a tokenizer that transformers rebuilt from a GGUF cut text as the GGUF says.

A GGUF names how its text is cut into words (`tokenizer.ggml.pre`), and transformers does not read
that name: a byte-level vocabulary of a Llama-shaped model comes back with SentencePiece habits, and
with every model behind it the token ids drift. Knows no weights.
"""

import json
from typing import Any

from finetune.errors import BaseModelError

# Words as Llama 3 and Qwen 2 cut them; they differ in how many digits go together.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def correct_word_cutting(tokenizer: Any, model: str | None, pre: str | None) -> None:
    """Set pre-tokenizer and decoder of a byte-level vocabulary from `tokenizer.ggml.pre`.

    `model` is `tokenizer.ggml.model`; anything but `gpt2` (byte-level BPE) is left alone.

    Raises:
        BaseModelError: a way of cutting that is not known here.
    """
    from tokenizers import decoders

    _require_merges(tokenizer)
    if model != "gpt2":
        return
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = _pre_tokenizer(pre or "default")
    backend.decoder = decoders.ByteLevel()
    backend.model.byte_fallback = False
    backend.model.fuse_unk = False


def _require_merges(tokenizer: Any) -> None:
    """Refuse a tokenizer that came back able to write single characters only."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if rules["type"] == "BPE" and not rules["merges"]:
        raise BaseModelError(
            "the tokenizer rebuilt from this GGUF has no merges (a SentencePiece vocabulary, such "
            "as Gemma's) and would cut text into single characters; set base_model.ref to the "
            "model's Hugging Face folder or id"
        )


def _pre_tokenizer(pre: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    def words(digits: str) -> Any:
        pattern = Regex(_WORDS.format(digits=digits))
        return [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known = {
        "default": [plain],
        "gpt-2": [plain],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), plain],
        "llama-bpe": words("{1,3}"),
        "qwen2": words(""),
    }
    if pre not in known:
        raise BaseModelError(
            f"this GGUF cuts words as {pre!r}, and a tokenizer can be rebuilt from a GGUF only for "
            f"{', '.join(known)}; set base_model.ref to the model's Hugging Face folder or id"
        )
    return pre_tokenizers.Sequence(known[pre])
