"""A GGUF file as trainable 16-bit weights in the user's cache.

The file's own metadata decides the special tokens, since a tokenizer rebuilt from a GGUF can come
back with the wrong end of turn. Knows nothing of runs or training.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from finetune.errors import BaseModelError
from finetune.gguf_sentencepiece import make_tokenizer, read_vocabulary, write_model
from finetune.gguf_tokenizer import correct_word_cutting
from finetune.home import cache_folder
from finetune.libraries import quiet
from finetune.licence import normalise
from finetune.provenance import versions

RECIPE = 3  # of the cached folder; higher whenever its content changes
SENTENCEPIECE = "llama"  # as `tokenizer.ggml.model` names it
UNQUANTIZED = {"ALL_F32", "F16", "BF16"}
SPECIAL_TOKENS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}


class GgufFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the metadata says that training and the manifest need.

    `special_tokens` maps `eos_token` and its like to the token's text; `quantized_from` is the
    GGUF type of a quantized file.
    """

    licence: str | None
    quantized_from: str | None
    special_tokens: dict[str, str]
    tokenizer_model: str | None
    tokenizer_pre: str | None
    chat_template: str | None


def architecture(path: Path) -> str | None:
    """Return `general.architecture`, which llama.cpp's tools write first; None if it is not there.

    Source: the GGUF specification, file structure.
    """
    with path.open("rb") as stream:
        stream.seek(24)  # magic, version, number of tensors, number of keys
        key = _string(stream)
        is_string = stream.read(4) == (8).to_bytes(4, "little")
        return _string(stream) if key == "general.architecture" and is_string else None


def _string(stream: Any) -> str:
    length = int.from_bytes(stream.read(8), "little")
    return bytes(stream.read(min(length, 64))).decode("utf-8", errors="replace")


def read_facts(path: Path) -> GgufFacts:
    """Read the metadata of a GGUF.

    Raises:
        BaseModelError: not a GGUF, or cut short.
    """
    return _facts(_fields(path))


def _fields(path: Path) -> Any:
    fields = _open(path).fields
    if "tokenizer.ggml.tokens" not in fields:
        raise BaseModelError(f"{path} holds no tokenizer: it is no language model")
    return fields


def _facts(fields: Any) -> GgufFacts:
    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    return GgufFacts(
        licence=normalise(value("general.license")),
        quantized_from=_type_name(value("general.file_type")),
        special_tokens=_special_tokens(fields),
        tokenizer_model=value("tokenizer.ggml.model"),
        tokenizer_pre=value("tokenizer.ggml.pre"),
        chat_template=value("tokenizer.chat_template"),
    )


def _open(path: Path) -> Any:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise BaseModelError(f"{path} is not a GGUF: it starts with {magic!r}, not b'GGUF'")
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, OverflowError, KeyError) as error:
        raise BaseModelError(
            f"{path} cannot be read as a GGUF ({path.stat().st_size:,} bytes; cut short?): fetch "
            "it again"
        ) from error


def _type_name(file_type: int | None) -> str | None:
    from gguf import LlamaFileType

    if file_type is None:
        return None
    name = LlamaFileType(file_type).name.removeprefix("MOSTLY_")
    return None if name in UNQUANTIZED else name


def _special_tokens(fields: Any) -> dict[str, str]:
    tokens = fields["tokenizer.ggml.tokens"]
    found = {}
    for name, key in SPECIAL_TOKENS.items():
        if key in fields:
            token_id = int(fields[key].contents())
            found[name] = bytes(tokens.parts[tokens.data[token_id]]).decode("utf-8")
    return found


def dequantise(path: Path, sha256: str) -> tuple[Path, GgufFacts]:
    """Return a folder of float16 safetensors made from a GGUF, and the GGUF's facts.

    The folder is cached by the file's hash and the transformers version that read it.

    Raises:
        BaseModelError: not a GGUF, or an architecture that transformers cannot read.
    """
    version = versions().get("transformers", "none")
    cached = cache_folder("bases", f"{sha256[:16]}-r{RECIPE}-transformers-{version}")
    facts_file = cached / "facts.json"
    if facts_file.is_file():
        return cached / "weights", msgspec.json.decode(facts_file.read_bytes(), type=GgufFacts)
    fields = _fields(path)
    facts = _facts(fields)
    cached.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cached.parent, suffix=".partial"))
    try:
        _convert_weights(path, scratch / "weights")
        _convert_tokenizer(path, scratch / "weights", fields, facts)
        (scratch / "facts.json").write_bytes(msgspec.json.encode(facts))
        _publish(scratch, cached)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return cached / "weights", facts


def _publish(scratch: Path, cached: Path) -> None:
    """Rename a finished folder into place; another process may have been faster."""
    try:
        scratch.rename(cached)
    except OSError:
        if not (cached / "facts.json").is_file():
            raise


def _convert_weights(path: Path, folder: Path) -> None:
    try:
        with quiet():
            import torch
            from transformers import AutoModelForCausalLM

            model: Any = AutoModelForCausalLM.from_pretrained(
                str(path.parent), gguf_file=path.name, dtype=torch.float16
            )
    except (ValueError, NotImplementedError, KeyError) as error:
        raise _unreadable(path, error) from error
    forget_quantization(model)
    model.save_pretrained(folder)


def _convert_tokenizer(path: Path, folder: Path, fields: Any, facts: GgufFacts) -> None:
    if facts.tokenizer_model == SENTENCEPIECE:
        vocabulary = read_vocabulary(fields)
        tokenizer = make_tokenizer(vocabulary)
        tokenizer.chat_template = facts.chat_template
        write_model(vocabulary, folder / "tokenizer.model")
    else:
        tokenizer = _rebuilt_by_transformers(path)
        correct_word_cutting(tokenizer, facts.tokenizer_model, facts.tokenizer_pre)
    correct_special_tokens(tokenizer, facts.special_tokens)
    tokenizer.clean_up_tokenization_spaces = False  # it would eat blanks of code when decoding
    tokenizer.save_pretrained(folder)


def _rebuilt_by_transformers(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except (ValueError, NotImplementedError, KeyError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BaseModelError:
    return BaseModelError(f"transformers cannot load {path.name}: {error}")


def forget_quantization(model: Any) -> None:
    """Remove the marks of the quantized file, so that plain weights are saved."""
    for owner, name in (
        (model.config, "quantization_config"),
        (model, "hf_quantizer"),
        (model, "quantization_method"),
    ):
        if hasattr(owner, name):
            delattr(owner, name)


def correct_special_tokens(tokenizer: Any, special_tokens: dict[str, str]) -> None:
    """Set each special token to what the GGUF's metadata says."""
    for name, token in special_tokens.items():
        if getattr(tokenizer, name) != token:
            setattr(tokenizer, name, token)
