"""Loads what a file is for: an engine that generates, or one that embeds.

Knows no more than the plan made from the file's header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.engine.embedding import EmbeddingEngine
from serve.engine.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.engine.compute import ComputeThread
    from serve.engine.sizing import Sized

AnyEngine = Engine | EmbeddingEngine


def load_engine(
    sized: Sized, note: Callable[[str], None], compute: ComputeThread | None = None
) -> AnyEngine:
    """Load a model as it was planned; `note` is told what takes long. Raises: EngineError."""
    if sized.pooling_type:
        return EmbeddingEngine.load(sized, compute)
    return Engine.load(sized.config, note=note, compute=compute)
