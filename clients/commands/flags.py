"""Check flags that mean nothing, alone or together. Knows no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def require_positive(args: argparse.Namespace, *names: str) -> None:
    """Check the numbers that are given.

    Raises:
        UsageError: one is not above 0.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise UsageError(f"{_flag(name)} is {value}; it must be above 0")


def refuse(args: argparse.Namespace, defaults: Mapping[str, object], reason: str) -> None:
    """Let no flag be passed over in silence.

    Raises:
        UsageError: one differs from its default.
    """
    for name, default in defaults.items():
        if getattr(args, name) != default:
            raise UsageError(f"{_flag(name)} is {reason}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
