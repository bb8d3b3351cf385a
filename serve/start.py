"""Opens what is to be served, and closes it in the end: one model now, or several when asked for.

Knows neither sockets nor routes; heavy libraries are imported when something is opened.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve import artifacts, purge, tune
from serve.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from serve.api.served import House
    from serve.config import Settings
    from serve.engine.config import EngineConfig
    from serve.engine.loading import AnyEngine

    Note = Callable[[str], None]


@contextlib.contextmanager
def opened(settings: Settings, environment: Mapping[str, str], note: Note) -> Iterator[House]:
    """Open the models of the settings; `note` is told what a person wants to know.

    Raises: ServeError.
    """
    open_ = _several if settings.models.is_used else _one
    with open_(settings, environment, note) as house:
        yield house


@contextlib.contextmanager
def _one(settings: Settings, environment: Mapping[str, str], note: Note) -> Iterator[House]:
    from serve.chat.errors import ChatError
    from serve.house import of_engine

    choice = artifacts.choose(settings.model.file, environment)
    note(f"model: {choice.path} ({choice.reason})")
    config = purge.with_cache_folder(tune.with_folder(settings.engine, choice.path), environment)
    engine = _load(_as_recommended(config, choice), note)
    try:
        try:
            house = of_engine(engine, settings)
        except ChatError as error:
            remedy = "replace it with --set model.template_file=FILE"
            raise ServeError(f"{error}; {remedy}") from error
        yield house
    finally:
        engine.close()


@contextlib.contextmanager
def _several(settings: Settings, environment: Mapping[str, str], _: Note) -> Iterator[House]:
    from serve.catalogue import Catalogue
    from serve.engine import machine
    from serve.engine.compute import ComputeThread
    from serve.house import of_catalogue

    named = settings.model.file
    first = None if named is None else artifacts.choose(named, environment).path
    engine = purge.with_cache_folder(settings.engine, environment)
    catalogue = Catalogue(msgspec.structs.replace(settings, engine=engine), first)
    compute = ComputeThread()
    house = of_catalogue(catalogue, settings, compute, machine.available_memory_bytes())
    try:
        yield house
    finally:
        house.residents.close()
        compute.close()


def _as_recommended(config: EngineConfig, choice: artifacts.Choice) -> EngineConfig:
    """Return what the recommendation was asked for where the settings say nothing else."""
    return msgspec.structs.replace(
        config,
        memory_bytes=config.memory_bytes or choice.memory_bytes,
        context_length=config.context_length or choice.context_length,
    )


def _load(config: EngineConfig, note: Note) -> AnyEngine:
    from serve.engine import machine
    from serve.engine.engine import Engine
    from serve.engine.errors import EngineError
    from serve.engine.loading import load_engine
    from serve.engine.sizing import size

    try:
        if config.memory_bytes is not None:
            free_bytes = machine.available_memory_bytes() or config.memory_bytes
            return load_engine(size(config, min(free_bytes, config.memory_bytes)), note)
        if _embeds(Path(config.model)):
            return load_engine(size(config, None), note)
        return Engine.load(config, note=note)
    except EngineError as error:
        raise ServeError(str(error)) from error


def _embeds(model: Path) -> bool:
    """Say what kind a file is; loading it says best what is wrong with one that cannot be read."""
    from serve.engine.errors import ModelLoadError
    from serve.engine.sizing import header_of

    try:
        return header_of(model).pooling_type > 0
    except ModelLoadError:
        return False
