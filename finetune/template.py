"""The chat template a model is trained with: its own, a built-in one, or a file.

Knows which tokens each built-in needs. Does not know examples or masks.
"""

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from finetune.config import TemplateConfig
from finetune.errors import TemplateError
from finetune.fingerprint import sha256_json


class BuiltIn(msgspec.Struct, frozen=True, kw_only=True):
    """What a built-in template asks of a tokenizer; no `end_of_turn` means its own EOS."""

    tokens: tuple[str, ...] = ()
    end_of_turn: str | None = None


NO_TEMPLATE = "none"
BUILT_IN = {
    "chatml": BuiltIn(tokens=("<|im_start|>", "<|im_end|>"), end_of_turn="<|im_end|>"),
    "llama-3": BuiltIn(
        tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        end_of_turn="<|eot_id|>",
    ),
    "gemma": BuiltIn(tokens=("<start_of_turn>", "<end_of_turn>"), end_of_turn="<end_of_turn>"),
    "alpaca": BuiltIn(),
}


def template_sha256(config: TemplateConfig) -> str | None:
    """Identify a chosen template by its text; the base model's own is part of the base."""
    if config.file is None and config.name == "base":
        return None
    return sha256_json(_chosen_text(config))


def _chosen_text(config: TemplateConfig) -> str:
    if config.file is not None:
        return _read(Path(config.file))
    if config.name == NO_TEMPLATE:
        return ""
    _find(config.name)
    return _built_in_text(config.name)


def choose_template(tokenizer: Any, config: TemplateConfig) -> None:
    """Give the tokenizer its template and the token that ends a turn; also a padding token.

    Raises:
        TemplateError: no template at all, an unknown name, or tokens the tokenizer lacks.
    """
    end_of_turn = config.eos_token
    if config.file is not None:
        tokenizer.chat_template = _chosen_text(config)
    elif config.name == NO_TEMPLATE:
        tokenizer.chat_template = None
    elif config.name == "base":
        _require_own(tokenizer)
    else:
        built_in = _find(config.name)
        _require_tokens(tokenizer, config.name, built_in)
        tokenizer.chat_template = _chosen_text(config)
        end_of_turn = end_of_turn or built_in.end_of_turn
    if end_of_turn is not None:
        _set_end_of_turn(tokenizer, end_of_turn)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"template.file {path} cannot be read: {error}") from error


def _require_own(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise TemplateError(
            "the base model has no chat template: set template.name to one of "
            f"{', '.join(BUILT_IN)}, or template.file to a Jinja file (where only texts are "
            "learnt, template.name to none)"
        )


def _find(name: str) -> BuiltIn:
    if name not in BUILT_IN:
        raise TemplateError(
            f"no built-in template `{name}`: there is base, {', '.join(BUILT_IN)}; or set "
            "template.file"
        )
    return BUILT_IN[name]


def _require_tokens(tokenizer: Any, name: str, built_in: BuiltIn) -> None:
    missing = [token for token in built_in.tokens if not _is_token(tokenizer, token)]
    if missing:
        raise TemplateError(
            f"template `{name}` needs {', '.join(missing)}, which this tokenizer does not have; "
            "`alpaca` needs no tokens of its own"
        )


def _set_end_of_turn(tokenizer: Any, token: str) -> None:
    if not _is_token(tokenizer, token):
        raise TemplateError(f"template.eos_token {token} is no token of this tokenizer")
    tokenizer.eos_token = token


def _is_token(tokenizer: Any, token: str) -> bool:
    return token in tokenizer.get_vocab()


def _built_in_text(name: str) -> str:
    file = resources.files("finetune") / "templates" / f"{name}.jinja"
    return file.read_text(encoding="utf-8")
