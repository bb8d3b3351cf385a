"""POST /apply-template, /tokenize and /detokenize: the server's own view of text and tokens.

The parity check of the quantize stage and editors ask these.
"""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.params import JSONBody

from serve.api.chat_schemas import ChatMessage
from serve.api.off_loop import off_loop
from serve.api.prompts import check_ids
from serve.api.served import Served, serving
from serve.chat import prefill
from serve.chat.messages import for_template
from serve.chat.tools import history


class TemplateRequest(msgspec.Struct, kw_only=True):
    """Messages to render."""

    messages: list[ChatMessage]
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    model: str | None = None


class Rendered(msgspec.Struct, frozen=True):
    """The prompt text, special tokens spelled out."""

    prompt: str


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Text to tokenize. `add_special` adds what the vocabulary wants around a text."""

    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    model: str | None = None


class TokenPiece(msgspec.Struct, frozen=True):
    """A token and its text; bytes where these are no whole characters."""

    id: int
    piece: str | list[int]


class Tokens(msgspec.Struct, frozen=True):
    """Token ids, with their text when pieces were asked for."""

    tokens: list[int | TokenPiece]


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """Token ids to turn into text."""

    tokens: list[int]
    model: str | None = None


class Content(msgspec.Struct, frozen=True):
    """Text."""

    content: str


@post("/apply-template", status_code=200)
async def apply_template(
    request: Request[Any, Any, Any], data: JSONBody[TemplateRequest]
) -> Rendered:
    """Render messages as a chat request would."""
    messages = for_template([msgspec.to_builtins(message) for message in data.messages])
    template = (await serving(request, data.model)).chat_template()
    complete = history.complete(messages, template)
    tools = None if data.tool_choice == "none" else data.tools
    variables = data.chat_template_kwargs
    if data.add_generation_prompt:
        return Rendered(prefill.render(template, complete, tools=tools, variables=variables))
    return Rendered(
        template.render(complete, tools=tools, variables=variables, add_generation_prompt=False)
    )


@post("/tokenize", status_code=200)
async def tokenize(request: Request[Any, Any, Any], data: JSONBody[TokenizeRequest]) -> Tokens:
    """Return the tokens of a text."""
    served = await serving(request, data.model, generates=False)
    token_ids = await off_loop(
        len(data.content),
        lambda: served.engine.tokenize(
            data.content, add_special=data.add_special, parse_special=data.parse_special
        ),
    )
    if not data.with_pieces:
        return Tokens([*token_ids])
    return Tokens([TokenPiece(each, _piece(served, each)) for each in token_ids])


@post("/detokenize", status_code=200)
async def detokenize(request: Request[Any, Any, Any], data: JSONBody[DetokenizeRequest]) -> Content:
    """Return the text of tokens."""
    engine = (await serving(request, data.model, generates=False)).engine
    check_ids(data.tokens, engine.model_info.n_vocab, param="tokens")
    return Content(engine.detokenize(data.tokens))


def _piece(served: Served, token_id: int) -> str | list[int]:
    piece = served.engine.token_bytes(token_id)
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)
