"""Render messages with a model's own chat template.

A template is code out of a downloaded file, so it runs in jinja2's immutable sandbox. The output
equals `apply_chat_template` of Hugging Face byte for byte, since that is what models are trained
with. Knows neither tokens nor HTTP.

Source: the environment that transformers documents for template authors (trim_blocks,
lstrip_blocks, loop controls, `raise_exception`, `strftime_now`, a plain `tojson`, `generation`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serve.chat.errors import TemplateError

if TYPE_CHECKING:
    from jinja2.parser import Parser

Message = Mapping[str, Any]
Tool = Mapping[str, Any]

TEMPLATE_KEY = "tokenizer.chat_template"
TOOL_TEMPLATE_KEY = f"{TEMPLATE_KEY}.tool_use"


class ChatTemplate:
    """One model's template, compiled once, with the variant for tools where the file has one.

    Raises:
        TemplateError: the source does not parse.
    """

    def __init__(
        self,
        source: str,
        *,
        tool_source: str | None = None,
        bos_token: str = "",
        eos_token: str = "",
    ) -> None:
        self.source = source
        self.tool_source = tool_source
        self.special = {"bos_token": bos_token, "eos_token": eos_token}
        self._plain = _compile(source)
        self._for_tools = _compile(tool_source) if tool_source else self._plain

    @property
    def markup(self) -> str:
        """Return the text in which the marks of the model's family are spelled out."""
        return f"{self.source}{self.tool_source or ''}"

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt text, special tokens spelled out, BOS included where it puts one.

        Raises:
            TemplateError: the template refused the messages or failed on them.
        """
        template = self._for_tools if tools else self._plain
        known = {**self.special, **(variables or {})}
        known |= {"messages": messages, "tools": tools or None, "documents": None}
        try:
            return template.render(known, add_generation_prompt=add_generation_prompt)
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template refused the messages: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise TemplateError(f"the chat template failed on these messages: {error}") from error


def from_metadata(
    metadata: Mapping[str, str], *, bos_token: str = "", eos_token: str = ""
) -> ChatTemplate | None:
    """Return the template a GGUF carries, or None; a lone tool template serves for everything."""
    tool_source = metadata.get(TOOL_TEMPLATE_KEY)
    source = metadata.get(TEMPLATE_KEY) or tool_source
    if not source:
        return None
    return ChatTemplate(source, tool_source=tool_source, bos_token=bos_token, eos_token=eos_token)


class _Generation(Extension):
    """`{% generation %}` marks trained spans; when serving it is transparent."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body as it stands."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _compile(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise TemplateError(f"the chat template does not parse: {error}") from error


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # templates may pass it by position
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # as above
) -> str:
    """Dump JSON without escaping for HTML, unlike jinja2's own filter."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005  # templates ask for the local date
