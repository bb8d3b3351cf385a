"""POST /v1/embeddings, /embedding, /api/embed and /api/embeddings: texts as vectors."""

import time
from typing import Any, Literal

import msgspec
from litestar import Request, post
from litestar.params import JSONBody

from serve.api.errors import InvalidRequestError
from serve.api.keep_alive import keep_seconds
from serve.api.vectors import as_base64, embed, embedding_model, read_inputs, shortened

_NO_NORM, _EUCLIDEAN = -1, 2  # llama.cpp's `embd_normalize`


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """Texts or lists of token ids. `dimensions` keeps that many and normalises again."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class EmbeddingEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One vector, as numbers or as base64 of 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors, in the order of the inputs."""

    data: list[EmbeddingEntry]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


class NativeEmbeddingRequest(msgspec.Struct, kw_only=True):
    """llama.cpp's own; `embd_normalize` is 2 for vectors of length 1 or -1 for raw ones."""

    content: str | list[str | int | list[int]] | None = None
    input: str | list[str | int | list[int]] | None = None
    model: str | None = None
    embd_normalize: int = _EUCLIDEAN


class NativeEmbedding(msgspec.Struct, frozen=True, kw_only=True):
    """One input's vectors: with pooling there is one."""

    index: int
    embedding: list[list[float]]


class OllamaEmbedRequest(msgspec.Struct, kw_only=True):
    """Ollama's own. A text beyond the context is cut unless `truncate` is false."""

    input: str | list[str]
    model: str = ""
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: str | float | None = None


class OllamaEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors. Durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaOldRequest(msgspec.Struct, kw_only=True):
    """Ollama's older route: one text."""

    prompt: str
    model: str = ""
    keep_alive: str | float | None = None


class OllamaOldEmbedding(msgspec.Struct, frozen=True):
    """One vector."""

    embedding: list[float]


@post("/v1/embeddings", status_code=200)
async def embeddings(
    request: Request[Any, Any, Any], data: JSONBody[EmbeddingRequest]
) -> EmbeddingList:
    """Embed one or more inputs."""
    served, embedder = await embedding_model(request, data.model)
    inputs = await read_inputs(served, embedder, data.input)
    vectors = [shortened(each, data.dimensions) for each in await embed(request, embedder, inputs)]
    is_text = data.encoding_format == "base64"
    num_tokens = sum(map(len, inputs))
    return EmbeddingList(
        data=[
            EmbeddingEntry(index=index, embedding=as_base64(each) if is_text else each.tolist())
            for index, each in enumerate(vectors)
        ],
        model=served.model_id,
        usage=EmbeddingUsage(num_tokens, num_tokens),
    )


@post(["/embedding", "/embeddings"], status_code=200)
async def native_embedding(
    request: Request[Any, Any, Any], data: JSONBody[NativeEmbeddingRequest]
) -> list[NativeEmbedding]:
    """Embed one or more inputs, as llama.cpp's server does."""
    given = data.input if data.content is None else data.content
    if given is None:
        raise InvalidRequestError("content is missing", param="content")
    if data.embd_normalize not in {_NO_NORM, _EUCLIDEAN}:
        raise InvalidRequestError(
            f"embd_normalize is {data.embd_normalize}; send 2 (length 1) or -1 (raw)",
            param="embd_normalize",
        )
    served, embedder = await embedding_model(request, data.model)
    inputs = await read_inputs(served, embedder, given)
    vectors = await embed(request, embedder, inputs)
    if data.embd_normalize == _EUCLIDEAN:
        vectors = [shortened(each, None) for each in vectors]
    return [
        NativeEmbedding(index=index, embedding=[each.tolist()])
        for index, each in enumerate(vectors)
    ]


@post("/api/embed", status_code=200)
async def ollama_embed(
    request: Request[Any, Any, Any], data: JSONBody[OllamaEmbedRequest]
) -> OllamaEmbeddings:
    """Embed one or more texts, as Ollama does."""
    began = time.monotonic_ns()
    keep = keep_seconds(data.keep_alive)
    served, embedder = await embedding_model(request, data.model, keep_seconds=keep)
    loaded = time.monotonic_ns()
    inputs = await read_inputs(served, embedder, [*_texts(data)], cut=data.truncate is not False)
    vectors = await embed(request, embedder, inputs)
    return OllamaEmbeddings(
        model=served.model_id,
        embeddings=[shortened(each, data.dimensions).tolist() for each in vectors],
        total_duration=time.monotonic_ns() - began,
        load_duration=loaded - began,
        prompt_eval_count=sum(map(len, inputs)),
    )


@post("/api/embeddings", status_code=200)
async def ollama_old_embedding(
    request: Request[Any, Any, Any], data: JSONBody[OllamaOldRequest]
) -> OllamaOldEmbedding:
    """Embed one text, as older clients of Ollama ask."""
    keep = keep_seconds(data.keep_alive)
    served, embedder = await embedding_model(request, data.model, keep_seconds=keep)
    inputs = await read_inputs(served, embedder, data.prompt, cut=True)
    [vector] = await embed(request, embedder, inputs)
    return OllamaOldEmbedding(shortened(vector, None).tolist())


def _texts(data: OllamaEmbedRequest) -> list[str]:
    return [data.input] if isinstance(data.input, str) else data.input
