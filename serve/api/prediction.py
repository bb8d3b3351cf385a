"""What a client expects the answer to be (OpenAI's predicted outputs), and whether to guess at all.

A prediction makes a right guess faster and changes nothing else. Knows no dialect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from serve.api.constraint_schemas import Constrained
from serve.api.off_loop import off_loop
from serve.chat.messages import plain_text

if TYPE_CHECKING:
    from serve.api.served import Served


class Prediction(msgspec.Struct, kw_only=True):
    """Expected content, as text or as a list of text parts."""

    content: str | list[Any]
    type: Literal["content"] = "content"


class Predicted(Constrained, kw_only=True):
    """The fields of a request. `drafts` false computes one token after the other."""

    prediction: Prediction | None = None
    drafts: bool | None = None


class Drafting(msgspec.Struct, frozen=True, kw_only=True):
    """The same for the engine; names as in its `GenerationRequest`."""

    prediction_token_ids: list[int] = []
    drafts: bool = True


async def read_drafting(served: Served, data: Predicted) -> Drafting:
    """Tokenize the prediction, at most a context of it.

    Raises:
        MessageError: a part that is not text.
    """
    drafts = data.drafts is not False
    if data.prediction is None or not drafts:
        return Drafting(drafts=drafts)
    text = plain_text(data.prediction.content, "prediction.content")
    token_ids = await off_loop(len(text), lambda: served.tokenize_plain(text))
    limit = served.engine.model_info.context_length
    return Drafting(prediction_token_ids=token_ids[:limit])
