"""Assemble the folder around merged weights: configuration, tokenizer, template, stop tokens.

Converters read the stop token from several files. They are brought into agreement here with the
tokenizer that was trained, so that neither an old generation config nor a base's eos survives.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from quantize.errors import SourceError

TEMPLATE = "chat_template.jinja"
SENTENCEPIECE = "tokenizer.model"
_SKIPPED_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf", ".md")


def assemble(
    base: Path, tokenizer: Path, template: Path | None, target: Path, *, dtype: str
) -> None:
    """Write everything but the weights of a 16-bit folder."""
    for path in sorted(tokenizer.iterdir()):
        if path.is_file() and path.suffix not in _SKIPPED_SUFFIXES:
            shutil.copyfile(path, target / path.name)
    if template is not None:
        shutil.copyfile(template, target / TEMPLATE)
        _forget_template(target / "tokenizer_config.json")
    if (base / SENTENCEPIECE).is_file():
        shutil.copyfile(base / SENTENCEPIECE, target / SENTENCEPIECE)
        _name_added_tokens(target)
    eos = eos_token_id(target)
    config = _read(base / "config.json")
    config.pop("torch_dtype", None)
    config.pop("_name_or_path", None)
    _write(target / "config.json", config | {"dtype": dtype} | _stop(config, eos))
    generation = base / "generation_config.json"
    settings = _read(generation) if generation.is_file() else {}
    _write(target / "generation_config.json", settings | _stop(settings, eos))


def eos_token_id(folder: Path) -> int:
    """Return the id of the tokenizer's end-of-sequence token.

    Raises:
        SourceError: when the tokenizer has none.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.eos_token_id is None:
        raise SourceError(f"the tokenizer in {folder} has no end-of-sequence token")
    return int(tokenizer.eos_token_id)


def load_tokenizer(folder: Path) -> Any:
    """Return the Hugging Face tokenizer of a folder, offline."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SourceError(f"cannot load the tokenizer in {folder}: {reason}") from error


def _stop(settings: dict[str, Any], eos: int) -> dict[str, Any]:
    """Return the stop tokens: the trained one first, others a base already had after it."""
    before = settings.get("eos_token_id")
    others = [token for token in before if token != eos] if isinstance(before, list) else []
    return {"eos_token_id": [eos, *others] if others else eos}


def _forget_template(path: Path) -> None:
    """Leave one template in the folder: the one in its own file."""
    if path.is_file():
        settings = _read(path)
        if settings.pop("chat_template", None) is not None:
            _write(path, settings)


def _name_added_tokens(folder: Path) -> None:
    """Say beside a SentencePiece file which tokens are added, where the converter looks for them.

    It reads neither user-defined pieces out of that file nor the `tokenizer.json` with them.
    """
    rules, path = _read(folder / "tokenizer.json"), folder / "tokenizer_config.json"
    added = {str(token.pop("id")): token for token in rules["added_tokens"]}
    _write(path, _read(path) | {"added_tokens_decoder": added})


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
