"""From what a client wants embedded to vectors: texts or tokens in, normalised numbers out.

Knows no dialect's envelope.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from serve.api.disconnect import unless_disconnected
from serve.api.errors import InvalidRequestError
from serve.api.off_loop import off_loop
from serve.api.served import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar import Request

    from serve.api.served import Served
    from serve.engine.embedding import EmbeddingEngine, Vector

Input = str | list[str | int | list[int]]


async def embedding_model(
    request: Request[Any, Any, Any], name: str | None, *, keep_seconds: float | None = None
) -> tuple[Served, EmbeddingEngine]:
    """Return the embedding model a request names.

    Raises:
        InvalidRequestError: the model generates text.
    """
    served = await serving(request, name, keep_seconds=keep_seconds, generates=False)
    if served.embedder is None:
        raise InvalidRequestError(
            f"{served.model_id} generates text and makes no embeddings; name an embedding model, "
            "a GGUF with a pooling type",
            param="model",
        )
    return served, served.embedder


async def read_inputs(
    served: Served, embedder: EmbeddingEngine, given: Input, *, cut: bool = False
) -> list[list[int]]:
    """Return the tokens of each input; `cut` shortens one that is too long, its end kept.

    Raises:
        InvalidRequestError: nothing or too many.
        EngineError: an input that cannot be embedded.
    """
    several = _several(given)
    limit = served.settings.limits.embedding_inputs
    if not 1 <= len(several) <= limit:
        raise InvalidRequestError(
            f"input holds {len(several)} entries; it must be 1 to {limit}", param="input"
        )
    size = sum(len(each) for each in several)
    inputs = await off_loop(size, lambda: [_tokens(embedder, each) for each in several])
    if cut:
        most = embedder.model_info.context_length
        inputs = [i if len(i) <= most else [*i[: most - 1], i[-1]] for i in inputs]
    embedder.check(inputs)
    return inputs


async def embed(
    request: Request[Any, Any, Any], embedder: EmbeddingEngine, inputs: Sequence[Sequence[int]]
) -> list[Vector]:
    """Return the vectors as the model makes them; work nobody waits for is given up."""
    return await unless_disconnected(request, embedder.embed(inputs))


def shortened(vector: Vector, dimensions: int | None) -> Vector:
    """Return the first dimensions, as a vector of length 1: models trained for it lose little.

    Raises:
        InvalidRequestError: more than there are.
    """
    most = len(vector)
    if dimensions is not None and not 1 <= dimensions <= most:
        raise InvalidRequestError(
            f"dimensions is {dimensions}; the model has {most}", param="dimensions"
        )
    part = vector[:dimensions]
    length = float(np.linalg.norm(part))
    return part / np.float32(length) if length else part


def as_base64(vector: Vector) -> str:
    """Return little-endian 32-bit floats, as OpenAI's SDK asks for them."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _several(given: Input) -> list[str | list[int]]:
    if isinstance(given, str):
        return [given]
    numbers = [each for each in given if isinstance(each, int)]
    if numbers:
        if len(numbers) < len(given):
            raise InvalidRequestError("input mixes token ids with text or lists", param="input")
        return [numbers]
    return [each for each in given if not isinstance(each, int)]


def _tokens(embedder: EmbeddingEngine, given: str | list[int]) -> list[int]:
    """Tokenize a text as the model wants it: with its marks around, none read out of the text."""
    if isinstance(given, str):
        return embedder.tokenize(given, add_special=True, parse_special=False)
    return given
