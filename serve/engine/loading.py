"""Loads what a file is for: an engine that generates, or one that embeds.

Knows no more than the header it decides by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.engine.engine import Engine

if TYPE_CHECKING:
    from serve.engine.compute import ComputeThread
    from serve.engine.sizing import Sized


def load_engine(sized: Sized, compute: ComputeThread | None = None) -> Engine:
    """Load a model as it was planned. Raises: EngineError."""
    return Engine.load(sized.config, compute=compute)
