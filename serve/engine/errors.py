"""Errors of the engine.

EngineError
├── ModelLoadError          the file is missing, not a GGUF, cut short, or of an unknown kind
├── AdapterLoadError        an adapter file is missing, no adapter, or of another model
├── ContextTooLargeError    the context asked for cannot be had: model limit or memory, with numbers
├── ModelTooLargeError      a model takes more than the whole budget for resident models
├── ModelsBusyError         there is no room for a model while others are in use
├── PromptTooLongError      prompt and context length, both as numbers
├── InputTooLongError       an input to embed is longer than the model can take at once
├── QueueFullError          the queue is at its bound; try again in `retry_after_seconds`
├── InvalidSamplingError    a sampling parameter out of range (what, value, limit)
├── UnknownAdapterError     a request names an adapter that was not loaded
├── InvalidConstraintError  a schema or grammar that cannot be followed, with the reason
├── EngineClosedError       the engine is shutting down or its worker died
├── CacheFolderError        the folder for stored prefixes cannot be made or entered
├── DamagedStateError       a stored prefix is not what was written; never leaves the engine
└── DecodeError             llama_decode failed for this batch

Knows no HTTP: the api package turns each into a status.
"""

from __future__ import annotations


class EngineError(Exception):
    """Everything the engine raises on purpose."""


class ModelLoadError(EngineError):
    """The model file cannot be served; the message names file, reason and remedy."""


class AdapterLoadError(EngineError):
    """The adapter cannot be used; the message names file, reason and remedy."""


class ContextTooLargeError(EngineError):
    """The requested context is beyond the model or the memory; the message has the numbers."""


class ModelTooLargeError(EngineError):
    """The model will never fit."""

    def __init__(self, name: str, num_bytes: int, budget_bytes: int) -> None:
        """`num_bytes` is what it takes with its context."""
        super().__init__(
            f"{name} takes {_gigabytes(num_bytes)} with its context and all models together may "
            f"take {_gigabytes(budget_bytes)}; lower engine.context_length or engine.slots, or "
            "raise models.budget_bytes"
        )


class ModelsBusyError(EngineError):
    """The model fits once others are done."""

    retry_after_seconds = 5  # most answers are over by then

    def __init__(self, name: str, num_bytes: int, budget_bytes: int, used_bytes: int) -> None:
        """`used_bytes` is what models in use take now."""
        super().__init__(
            f"{name} takes {_gigabytes(num_bytes)}; models in use take {_gigabytes(used_bytes)} of "
            f"{_gigabytes(budget_bytes)}; retry when they are done"
        )


class PromptTooLongError(EngineError):
    """The prompt leaves no room to generate."""

    def __init__(self, num_prompt_tokens: int, context_length: int) -> None:
        """Keep both numbers: clients read them to shorten their prompt."""
        self.num_prompt_tokens = num_prompt_tokens
        self.context_length = context_length
        super().__init__(
            f"the prompt has {num_prompt_tokens} tokens and the context holds {context_length}, "
            "one of them kept for the answer; shorten the prompt or serve with a larger "
            "--context-length"
        )


class InputTooLongError(EngineError):
    """An input does not fit; embedding models read an input in one piece."""

    def __init__(self, num_tokens: int, length: int) -> None:
        """Keep both numbers: clients read them to split their text."""
        self.num_prompt_tokens = num_tokens
        self.context_length = length
        super().__init__(
            f"an input is too large: it has {num_tokens} tokens and the model takes {length} at "
            "once; split it or serve with a larger --context-length"
        )


class QueueFullError(EngineError):
    """The queue is full; nothing of the request was kept."""

    def __init__(self, num_waiting: int, limit: int, retry_after_seconds: int) -> None:
        """`retry_after_seconds` is whole seconds, for the Retry-After header."""
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            f"{num_waiting} requests wait and the queue holds {limit}; "
            f"retry in {retry_after_seconds} s"
        )


class InvalidSamplingError(EngineError):
    """A sampling parameter is out of range; `param` is its name."""

    def __init__(self, param: str, message: str) -> None:
        """`message` says what, the value and the limit."""
        self.param = param
        super().__init__(message)


class UnknownAdapterError(EngineError):
    """There is no adapter of this number."""

    def __init__(self, number: int, num_adapters: int) -> None:
        """`num_adapters` are loaded, numbered from 0."""
        there = f"0 to {num_adapters - 1} are" if num_adapters else "none is"
        super().__init__(f"there is no adapter {number}; {there} loaded (see GET /lora-adapters)")


class InvalidConstraintError(EngineError):
    """No text follows this constraint, or it is written in a way that is not understood."""


class EngineClosedError(EngineError):
    """No more requests are taken."""

    retry_after_seconds = 5  # by then a supervisor has restarted the server


class CacheFolderError(EngineError):
    """The folder for stored prefixes cannot be used; the message names it and the remedy."""


class DamagedStateError(EngineError):
    """The file of a stored prefix is cut short or altered; it is dropped and its text read."""


class DecodeError(EngineError):
    """The library refused or failed a batch; the message has its return code."""


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
