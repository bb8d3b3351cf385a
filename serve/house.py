"""Makes the house of an application: its catalogue, and how its models come into memory.

Knows neither routes nor the command line.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from serve.api.cache_log import CacheLog
from serve.api.gaps import Gaps
from serve.api.sampling import defaults
from serve.api.served import House, Served
from serve.artifacts import measurements
from serve.catalogue import Catalogue, ModelSpec
from serve.chat.capabilities import Capabilities, probe
from serve.chat.template import ChatTemplate, from_metadata
from serve.chat.tools.in_words import TemplateInWords
from serve.chat.transcripts import Transcripts
from serve.engine.embedding import EmbeddingEngine
from serve.engine.errors import ContextTooLargeError
from serve.engine.sizing import header_of, size
from serve.errors import ConfigError
from serve.residents import FOREVER, Residents

if TYPE_CHECKING:
    from serve.config import Settings
    from serve.engine.compute import ComputeThread
    from serve.engine.engine import Engine
    from serve.engine.loading import AnyEngine
    from serve.engine.model_info import ModelInfo

logger = logging.getLogger(__name__)

BUDGET_SHARE = 0.75  # of the free memory: see `ModelsSettings.budget_bytes`


class NotLoaded:
    """Stands where the engine of a model will be, and knows what its file says."""

    def __init__(self, info: ModelInfo) -> None:
        self.model_info = info


def of_engine(engine: AnyEngine, settings: Settings) -> House:
    """Return a house of the one model that is loaded already.

    Raises:
        ConfigError: the template file configured cannot be read.
        TemplateError: the chat template does not parse.
    """
    catalogue = Catalogue(settings, Path(engine.model_info.path))
    spec = catalogue.default.spec
    residents = Residents.of_one(spec.name, serve_model(engine, settings, spec))
    return House(
        catalogue=catalogue,
        residents=residents,
        describe=lambda _: residents.loaded()[0].value,
    )


def of_catalogue(
    catalogue: Catalogue, settings: Settings, compute: ComputeThread, free_bytes: int | None
) -> House:
    """Return a house whose models are loaded when they are asked for; `free_bytes` is now's."""
    budget = settings.models.budget_bytes or int((free_bytes or 0) * BUDGET_SHARE)
    if not budget:
        raise ConfigError("this system does not tell its free memory; set models.budget_bytes")
    keep = settings.models.keep_alive_seconds

    def open_model(name: str) -> Served:
        from serve.engine.loading import load_engine

        spec = catalogue.specs[name]
        engine = load_engine(size(spec.engine, budget), logger.info, compute)
        return serve_model(engine, settings, spec)

    def describe(spec: ModelSpec) -> Served:
        return serve_model(NotLoaded(_info(spec, budget)), settings, spec)

    residents = Residents(
        open_model,
        lambda name: size(catalogue.specs[name].engine, budget).num_bytes,
        budget_bytes=budget,
        keep_seconds=FOREVER if keep < 0 else keep,
    )
    return House(catalogue=catalogue, residents=residents, describe=describe)


def _info(spec: ModelSpec, budget: int) -> ModelInfo:
    """Return what the file says, also of a model that is too large to be loaded."""
    try:
        return size(spec.engine, budget).info
    except ContextTooLargeError:
        return size(spec.engine, None).info


def serve_model(engine: AnyEngine | NotLoaded, settings: Settings, spec: ModelSpec) -> Served:
    """Gather what the routes share about a model.

    Raises: ConfigError, TemplateError.
    """
    info = engine.model_info
    template, capabilities = _spoken(_template(info, spec.template_file), settings)
    return Served(
        engine=cast("Engine", engine),
        embedder=engine if isinstance(engine, EmbeddingEngine) else None,
        is_embedding=_pools(engine),
        template=template,
        capabilities=capabilities,
        model_id=spec.name,
        created=int(time.time()),
        sampling=defaults(info.metadata, settings.sampling),
        settings=settings,
        measurements=measurements(Path(info.path)),
        gaps=Gaps(cast("Engine", engine), settings.fim),
        cache_log=CacheLog(cast("Engine", engine)) if settings.api.debug_cache else None,
        transcripts=Transcripts(cast("Engine", engine)) if settings.api.keep_ids else None,
        adapters=spec.adapters,
        adapter_scales=[0.0] * len(spec.adapters),
    )


def _pools(engine: AnyEngine | NotLoaded) -> bool:
    """Say whether a model embeds: as its engine is, or as the file says."""
    if isinstance(engine, NotLoaded):
        return header_of(Path(engine.model_info.path)).pooling_type > 0
    return isinstance(engine, EmbeddingEngine)


def _spoken(
    template: ChatTemplate | None, settings: Settings
) -> tuple[ChatTemplate | None, Capabilities | None]:
    """Return the template, made to read tools where that was asked for, and what it can."""
    if template is None:
        return None, None
    able = probe(template)
    if able.supports_tools or not settings.tools.generic:
        return template, able
    in_words = TemplateInWords(template, has_system_role=able.supports_system_role)
    return in_words, replace(probe(in_words), generic_tools=True)


def _template(info: ModelInfo, template_file: str | None) -> ChatTemplate | None:
    special = {"bos_token": info.bos_token, "eos_token": info.eos_token}
    if template_file is None:
        return from_metadata(info.metadata, **special)
    try:
        return ChatTemplate(Path(template_file).expanduser().read_text("utf-8"), **special)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the chat template {template_file}: {error}") from error
