"""What the routes share: the engine, its chat template, its name and the limits.

One value per model; routes find it in the application's state. Knows no dialect.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from serve.api.errors import ModelNotFoundError
from serve.chat.errors import NoTemplateError
from serve.chat.fim import FimTokens, fim_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litestar import Request

    from serve.api.gaps import Gaps
    from serve.chat.capabilities import Capabilities
    from serve.chat.template import ChatTemplate
    from serve.config import Settings
    from serve.engine.engine import Engine
    from serve.engine.request import SamplingParams

T = TypeVar("T")

OFF_LOOP_CHARS = 8192
"""Longer texts are rendered and tokenized in a thread: some 2 ms of work otherwise stall every
stream on the event loop."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One model, ready to answer. `created` is in seconds since 1970."""

    engine: Engine
    template: ChatTemplate | None
    capabilities: Capabilities | None
    model_id: str
    created: int
    sampling: SamplingParams
    settings: Settings
    measurements: list[dict[str, Any]]
    gaps: Gaps

    @property
    def fingerprint(self) -> str:
        """Return what, besides model and seed, decides an answer: the runtime."""
        return self.engine.model_info.runtime

    def chat_template(self) -> ChatTemplate:
        """Return the template.

        Raises:
            NoTemplateError: the model has none and none is configured.
        """
        if self.template is None:
            raise NoTemplateError(
                f"{self.model_id} has no chat template; use /v1/completions, or serve it with "
                "--set model.template_file=FILE"
            )
        return self.template

    def tokenize_rendered(self, text: str) -> list[int]:
        """Tokenize text that may spell out special tokens, with exactly one BOS if one is due."""
        bos = self.engine.model_info.bos_token
        has_bos = bool(bos) and text.startswith(bos)
        return self.engine.tokenize(text, add_special=not has_bos, parse_special=True)

    def tokenize_plain(self, text: str) -> list[int]:
        """Tokenize text of which nothing is special: source code around a cursor."""
        return self.engine.tokenize(text, add_special=False, parse_special=False)

    def mark_token(self, text: str) -> int | None:
        """Return the token that a mark of the chat template is, None when it is several."""
        token_ids = self.engine.tokenize(text, add_special=False, parse_special=True)
        return token_ids[0] if len(token_ids) == 1 else None

    def fim_tokens(self) -> FimTokens:
        """Return the ids that lay out a fill-in-the-middle prompt."""
        return fim_tokens(self.engine.model_info)

    def is_fim(self, token_ids: Sequence[int]) -> bool:
        """Return whether a prompt asks for the middle: clients may spell the layout themselves."""
        return self.engine.model_info.fim_mid_token_id in token_ids[-4:] or (
            self.engine.model_info.fim_suf_token_id in token_ids
        )


def served_by(request: Request[Any, Any, Any]) -> Served:
    """Return the model of this application."""
    return cast("Served", request.app.state.served)


def require_model(served: Served, name: str) -> None:
    """Refuse another model's name where the name is the question itself.

    Raises:
        ModelNotFoundError: the name is not the one served.
    """
    if name != served.model_id:
        raise ModelNotFoundError(
            f"the model {name!r} is not served here; {served.model_id!r} is", param="model"
        )


async def off_loop(size_chars: int, work: Callable[[], T]) -> T:
    """Do `work` here when it is small, else in a thread."""
    if size_chars < OFF_LOOP_CHARS:
        return work()
    return await asyncio.to_thread(work)
