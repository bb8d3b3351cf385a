"""The fields by which a request asks for an answer of a certain form, in every dialect's names."""

from typing import Any

import msgspec

from serve.api.sampling import Sampling


class ResponseFormat(msgspec.Struct, kw_only=True):
    """`text`, `json_object`, or `json_schema`.

    A schema stands in `json_schema.schema` beside `strict` as OpenAI's chat has it, or in `schema`
    as its responses and llama.cpp have it. With `strict` a schema that holds keywords this server
    cannot enforce is refused; without it they are ignored.
    """

    type: str = "text"
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class StructuredOutputs(msgspec.Struct, kw_only=True):
    """As vLLM has it: one of these."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Constrained(Sampling, kw_only=True):
    """One form at most. `grammar` is GBNF, or Lark when it begins with `%llguidance`.

    `guided_*` are vLLM's older names of the fields in `structured_outputs`.
    """

    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
