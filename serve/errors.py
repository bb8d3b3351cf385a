"""Errors of starting the server; each ends the command with exit code 2 and its one line.

ServeError
├── ConfigError     the configuration cannot be read or holds something unknown
├── NoModelError    there is no model to serve, or the run named is not complete
├── BindError       the address cannot be had
└── AccessError     keys cannot be read, or a public bind without any

The rooms have trees of their own: engine/errors.py, chat/errors.py, api/errors.py.
"""

from __future__ import annotations


class ServeError(Exception):
    """Everything that stops the server from starting, on purpose."""


class ConfigError(ServeError):
    """The message names the key or file, the value and what would be right."""


class NoModelError(ServeError):
    """The message says where was looked and what to do."""


class BindError(ServeError):
    """The message names host, port, reason and remedy."""


class AccessError(ServeError):
    """The message says what is open or unreadable and how to close it."""
