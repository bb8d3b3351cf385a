"""Read the prompt of a completion in any of the forms clients send it.

Text is parsed for special tokens, since editors spell FIM layouts in it; ids are taken as they
are, once checked against the vocabulary. Knows no dialect's answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serve.api.adapters import mix_of
from serve.api.errors import InvalidRequestError
from serve.chat import instruct, prefill
from serve.chat.anchors import Gap
from serve.chat.fim import FimPrompt, fim_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.adapters import LoraChoice
    from serve.api.served import Served


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt, as text for an echo and as the tokens that are read.

    The answer has to begin with `begins_with`, which the text holds and the tokens do not. It ends
    at one of `stop`, beside those that the client sends.
    """

    text: str
    token_ids: list[int]
    begins_with: str = ""
    stop: tuple[str, ...] = ()


def read_prompts(
    served: Served,
    prompt: str | Sequence[str | int | list[int]],
    *,
    suffix: str | None = None,
    lora: list[LoraChoice] | None = None,
    anew: bool = False,
) -> list[Prompt]:
    """Return one prompt for text or ids, one each for a list of texts or of id lists.

    With a `suffix` each becomes a fill-in-the-middle prompt. `anew`: the ids are the tokenizer's,
    also of a text whose end was generated here in others.

    Raises:
        InvalidRequestError: nothing, too many, a mixture, or an id outside the vocabulary.
        NoFimError: a suffix, and the model cannot fill in the middle.
    """
    several = _split(prompt, served.settings.limits.prompts)
    if suffix:
        return [fim_prompt(served, _text(served, each), suffix, lora=lora) for each in several]
    return [_read(served, each, anew=anew) for each in several]


def _split(prompt: str | Sequence[str | int | list[int]], limit: int) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    ids = [each for each in prompt if isinstance(each, int)]
    several = [each for each in prompt if not isinstance(each, int)]
    if ids and several:
        raise InvalidRequestError("prompt mixes token ids with text or lists", param="prompt")
    if not ids and not 1 <= len(several) <= limit:
        raise InvalidRequestError(
            f"prompt holds {len(several)} entries; it must be 1 to {limit}", param="prompt"
        )
    return [ids] if ids else several


def _text(served: Served, prompt: str | list[int]) -> str:
    if isinstance(prompt, str):
        return prompt
    check_ids(prompt, served.engine.model_info.n_vocab, param="prompt")
    return served.engine.detokenize(prompt)


def _read(served: Served, prompt: str | list[int], *, anew: bool) -> Prompt:
    text = _text(served, prompt)
    token_ids = served.tokenize_rendered(text, anew=anew) if isinstance(prompt, str) else prompt
    if not token_ids:
        raise InvalidRequestError("the prompt is empty: no token to start from", param="prompt")
    return Prompt(text=text, token_ids=token_ids)


def fim_prompt(
    served: Served, prefix: str, suffix: str, *, lora: list[LoraChoice] | None = None
) -> Prompt:
    """Lay a gap out whole; one beyond the context is the engine's to refuse.

    Raises:
        NoFimError: the model cannot fill in the middle.
    """
    if instructs(served):
        laid = instructed(served, prefix, suffix)
    else:
        gap = Gap(before=prefix, after=suffix)
        laid = served.gaps.prompt(gap, adapters=mix_of(served, lora))
    return Prompt(
        text=prefix, token_ids=laid.token_ids, begins_with=laid.begins_with, stop=laid.stop
    )


def instructs(served: Served) -> bool:
    """Return whether gaps are filled by asking: the configuration says so, the vocabulary no."""
    has_tokens = fim_tokens(served.engine.model_info).complete
    return served.settings.fim.instruct and not has_tokens and served.template is not None


def instructed(
    served: Served, before: str, after: str, *, max_tokens: int | None = None
) -> FimPrompt:
    """Return the prompt that asks for what belongs in a gap, cut far from the cursor to fit."""
    is_cut = False
    while True:
        text = prefill.render(served.chat_template(), instruct.turns(before, after))
        token_ids = served.tokenize_rendered(text)
        if max_tokens is None or len(token_ids) <= max_tokens or not (before or after):
            return FimPrompt(token_ids=token_ids, is_cut=is_cut, stop=(instruct.STOP,))
        is_cut = True
        before, after = before[len(before) // 4 + 1 :], after[: len(after) // 2]


def check_ids(token_ids: Sequence[int], n_vocab: int, *, param: str) -> None:
    """Refuse ids that no token has.

    Raises:
        InvalidRequestError: naming the first one.
    """
    wrong = next((each for each in token_ids if not 0 <= each < n_vocab), None)
    if wrong is not None:
        raise InvalidRequestError(
            f"token id {wrong} is outside the vocabulary of {n_vocab}", param=param
        )
