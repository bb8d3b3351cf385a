"""Errors of the chat room.

ChatError
├── NoTemplateError   the model brings no chat template and none is configured
├── TemplateError     the template does not parse, or refused these messages
├── MessageError      a message the templates cannot take; `param` says which field
└── NoFimError        the model has no fill-in-the-middle tokens

Knows no HTTP: the api package turns each into a status.
"""

from __future__ import annotations


class ChatError(Exception):
    """Everything the chat room raises on purpose."""


class NoTemplateError(ChatError):
    """Chat was asked of a model without a chat template."""


class TemplateError(ChatError):
    """The template failed; the message is the template's own where it raised one."""


class MessageError(ChatError):
    """A message cannot be rendered."""

    def __init__(self, param: str, message: str) -> None:
        """`param` is the path of the field, `messages.1.tool_calls` for example."""
        self.param = param
        super().__init__(message)


class NoFimError(ChatError):
    """The vocabulary lacks the tokens that mark prefix, suffix and middle."""
