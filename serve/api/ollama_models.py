"""GET /api/version, /api/tags, /api/ps and POST /api/show: what Ollama's clients ask beforehand."""

import asyncio
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import JSONBody

from serve.api.errors import InvalidRequestError
from serve.api.models import described
from serve.api.served import Served, find, house_of
from serve.api.thinking import thinks
from serve.residents import FOREVER

DIALECT = "0.12.0+edgesmith"
"""The release of Ollama whose requests and answers these routes follow, which clients compare;
the build part says who answers."""

NEVER = "9999-12-31T23:59:59Z"

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
    40: "Q1_0", 41: "Q2_0",
}  # fmt: skip  # Source: llama.h `llama_ftype`


class Version(msgspec.Struct, frozen=True):
    """`version` is a semantic version."""

    version: str


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """The model in a few words."""

    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    parent_model: str = ""
    format: str = "gguf"


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A model on disk. `digest` is the file's SHA-256 where a run recorded it, else empty."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(msgspec.Struct, frozen=True):
    """Every model and adapter, loaded or not."""

    models: list[Tag]


class RunningModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in memory. `size` is with its context; `context_length` is for one request.

    `expires_at` is when it goes unless someone asks: far away while someone uses it.
    """

    name: str
    model: str
    size: int
    digest: str
    details: Details
    context_length: int
    expires_at: str = NEVER


class Running(msgspec.Struct, frozen=True):
    """Every loaded model."""

    models: list[RunningModel]


class ShowRequest(msgspec.Struct, kw_only=True):
    """Older clients send `name`."""

    model: str | None = None
    name: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A model in full. `template` is the GGUF's own, in jinja; `parameters` are the defaults."""

    license: str
    modified_at: str
    template: str
    parameters: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]


@get("/api/version")
async def version() -> Version:
    """Say which Ollama this server can stand in for, and that it is another."""
    return Version(DIALECT)


@get("/api/tags")
async def tags(request: Request[Any, Any, Any]) -> Tags:
    """List the models, loaded or not."""
    listed = await asyncio.to_thread(described, house_of(request))
    return Tags(
        [
            Tag(
                name=found.name,
                model=found.name,
                modified_at=_modified_at(served),
                size=_size_bytes(served),
                digest=_digest(served),
                details=_details(served),
            )
            for found, served in listed
        ]
    )


@get("/api/ps")
async def running(request: Request[Any, Any, Any]) -> Running:
    """List the models in memory, the last used first."""
    return Running(
        [
            RunningModel(
                name=each.name,
                model=each.name,
                size=each.num_bytes or each.value.engine.model_info.size_bytes,
                digest=_digest(each.value),
                details=_details(each.value),
                context_length=each.value.engine.model_info.context_length,
                expires_at=NEVER if each.expires_at == FOREVER else _time(each.expires_at),
            )
            for each in house_of(request).residents.loaded()
        ]
    )


@post("/api/show", status_code=200)
async def show(request: Request[Any, Any, Any], data: JSONBody[ShowRequest]) -> Shown:
    """Describe one model; `<architecture>.context_length` is what one request may use here."""
    name = data.model or data.name
    if not name:
        raise InvalidRequestError("model is missing", param="model")
    house = house_of(request)
    served = await asyncio.to_thread(house.shown, find(house, name, exact=True))
    return Shown(
        license=served.engine.model_info.metadata.get("general.license", ""),
        modified_at=_modified_at(served),
        template=served.template.source if served.template else "",
        parameters=_parameters(served),
        details=_details(served),
        model_info=_model_info(served),
        capabilities=_capabilities(served),
    )


def _capabilities(served: Served) -> list[str]:
    if served.is_embedding:
        return ["embedding"]
    able = {
        "completion": True,
        "insert": served.fim_tokens().complete,
        "tools": served.capabilities is not None and served.capabilities.supports_tools,
        "thinking": thinks(served),
    }
    return [name for name, can in able.items() if can]


def _model_info(served: Served) -> dict[str, Any]:
    """Return the file's metadata with typed numbers, and the figures that editors plan with."""
    info = served.engine.model_info
    arch = info.architecture
    kept = ("general.", "edgesmith.", f"{arch}.")
    numbers = (f"{arch}.", "general.quantization_version")
    shown: dict[str, Any] = {
        key: _number(value) if key.startswith(numbers) else value
        for key, value in info.metadata.items()
        if key.startswith(kept)
    }
    return shown | {
        "general.architecture": arch,
        "general.basename": info.metadata.get("general.basename") or info.name,
        "general.file_type": info.file_type,
        "general.parameter_count": info.n_params,
        f"{arch}.context_length": info.context_length,
    }


def _number(text: str) -> Any:
    """Return the number that a metadata string spells, else the string."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text


def _parameters(served: Served) -> str:
    """Return the sampling of a request that sends none, one a line."""
    params = served.sampling
    shown = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")
    return "\n".join(f"{name} {getattr(params, name)}" for name in shown)


def _details(served: Served) -> Details:
    info = served.engine.model_info
    return Details(
        family=info.architecture,
        families=[info.architecture],
        parameter_size=_size(info.n_params),
        quantization_level=_FILE_TYPES.get(-1 if info.file_type is None else info.file_type, ""),
    )


def _size(count: int) -> str:
    for unit, letter in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return str(count)


def _digest(served: Served) -> str:
    known = (each.get("file_sha256") for each in served.measurements)
    return next((digest for digest in known if isinstance(digest, str)), "")


def _size_bytes(served: Served) -> int:
    """Return the size on disk; a file that was removed while it is served has that in memory."""
    info = served.engine.model_info
    path = Path(info.path)
    return path.stat().st_size if path.is_file() else info.size_bytes


def _modified_at(served: Served) -> str:
    path = Path(served.engine.model_info.path)
    seconds = path.stat().st_mtime if path.is_file() else served.created
    return _time(seconds)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
