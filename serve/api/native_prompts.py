"""The prompts of /completion, in the forms that llama.cpp takes them.

Text, ids, text and ids that are read as one prompt, an object beside pictures; several of these in
a list. Knows no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.api.errors import InvalidRequestError
from serve.api.native_schemas import PromptObject
from serve.api.prompts import check_ids
from serve.chat.fim import FimPrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.native_schemas import Mixed, NativePrompt
    from serve.api.served import Served


def read_native_prompts(served: Served, prompt: NativePrompt) -> list[FimPrompt]:
    """Return each prompt as ids.

    Raises:
        InvalidRequestError: none or too many, an empty one, pictures, or an id that no token has.
    """
    several = _split(prompt)
    limit = served.settings.limits.prompts
    if not 1 <= len(several) <= limit:
        raise InvalidRequestError(
            f"prompt holds {len(several)} entries; it must be 1 to {limit}", param="prompt"
        )
    return [FimPrompt(token_ids=_read(served, each), is_cut=False) for each in several]


def _split(prompt: NativePrompt) -> list[str | PromptObject | Mixed]:
    """Tell several prompts from one: a list with ids of its own is one."""
    if isinstance(prompt, str | PromptObject):
        return [prompt]
    if any(isinstance(each, int) for each in prompt):
        mixed = [each for each in prompt if isinstance(each, int | str)]
        if len(mixed) < len(prompt):
            raise InvalidRequestError(
                "prompt mixes token ids with lists or objects; send text and ids for one prompt, "
                "lists for several",
                param="prompt",
            )
        return [mixed]
    return [each for each in prompt if not isinstance(each, int)]


def _read(served: Served, prompt: str | PromptObject | Mixed) -> list[int]:
    if isinstance(prompt, PromptObject):
        if prompt.multimodal_data:
            raise InvalidRequestError(
                "this server reads text only; send no multimodal_data", param="prompt"
            )
        prompt = prompt.prompt_string
    token_ids = _encode(served, [prompt] if isinstance(prompt, str) else prompt)
    check_ids(token_ids, served.engine.model_info.n_vocab, param="prompt")
    return token_ids


def _encode(served: Served, parts: Sequence[str | int]) -> list[int]:
    """Read text and ids as one; only what begins the prompt begins a text."""
    token_ids: list[int] = []
    for each in parts:
        if isinstance(each, int):
            token_ids.append(each)
        elif token_ids:
            token_ids += served.engine.tokenize(each, add_special=False, parse_special=True)
        else:
            token_ids += served.tokenize_rendered(each)
    return token_ids
