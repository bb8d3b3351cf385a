"""GET /v1/models: what is served, with what the file says of itself and what was measured."""

import asyncio
import logging
from typing import Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import FromPath

from serve.api.served import House, Served, find, house_of
from serve.catalogue import Found
from serve.chat.errors import TemplateError
from serve.engine.errors import EngineError
from serve.residents import State

logger = logging.getLogger(__name__)


class ModelMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the model; `n_ctx` is what one request may use here."""

    n_ctx: int
    n_ctx_train: int
    n_vocab: int
    n_embd: int
    n_params: int
    size: int
    description: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The file's own `metadata`, and what machines measured (docs/artifacts.md)."""

    metadata: dict[str, str]
    measurements: list[dict[str, Any]]


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model. Editors read the context from `meta.n_ctx` or `max_model_len`.

    `parent` is set for an adapter: the model it changes.
    """

    id: str
    created: int
    max_model_len: int
    capabilities: list[str]
    state: State
    meta: ModelMeta
    edgesmith: Provenance
    object: Literal["model"] = "model"
    owned_by: str = "llamacpp"
    parent: str | None = None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Every model and adapter, loaded or not."""

    data: list[ModelEntry]
    object: Literal["list"] = "list"


@get(["/v1/models", "/models"])
async def list_models(request: Request[Any, Any, Any]) -> ModelList:
    """List the models and adapters; asking loads none."""
    house = house_of(request)
    listed = await asyncio.to_thread(described, house)
    return ModelList(data=[entry(house, found, served) for found, served in listed])


@get(["/v1/models/{model_id:str}", "/models/{model_id:str}"])
async def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> ModelEntry:
    """Describe one model or adapter."""
    house = house_of(request)
    found = find(house, model_id, exact=True)
    return entry(house, found, await asyncio.to_thread(house.shown, found))


def described(house: House) -> list[tuple[Found, Served]]:
    """Describe all there is; a file that cannot be read is none. Reads files."""
    listed = []
    for found in house.catalogue.all():
        try:
            listed.append((found, house.shown(found)))
        except (EngineError, TemplateError) as error:
            logger.warning("%s is not listed: %s", found.spec.path, error)
    return listed


def entry(house: House, found: Found, served: Served) -> ModelEntry:
    """Describe one model."""
    info = served.engine.model_info
    return ModelEntry(
        id=found.name,
        created=served.created,
        max_model_len=info.context_length,
        state=house.residents.state(found.spec.name),
        parent=None if found.mix is None else found.spec.name,
        capabilities=capabilities(served),
        edgesmith=provenance(served),
        meta=ModelMeta(
            n_ctx=info.context_length,
            n_ctx_train=info.n_ctx_train,
            n_vocab=info.n_vocab,
            n_embd=info.n_embd,
            n_params=info.n_params,
            size=info.size_bytes,
            description=info.description,
        ),
    )


def capabilities(served: Served) -> list[str]:
    """Return what may be asked of the model, in one word each."""
    if served.is_embedding:
        return ["embedding"]
    able = {
        "completion": True,
        "chat": served.template is not None,
        "fim": served.fim_tokens().complete,
        "tools": served.capabilities is not None and served.capabilities.supports_tools,
        "generic_tools": served.capabilities is not None and served.capabilities.generic_tools,
    }
    return [name for name, can in able.items() if can]


def provenance(served: Served) -> Provenance:
    """Return the file's `edgesmith.*` and `general.*` metadata and its measurements."""
    metadata = served.engine.model_info.metadata
    own = {k: v for k, v in metadata.items() if k.startswith(("edgesmith.", "general."))}
    return Provenance(metadata=own, measurements=served.measurements)
