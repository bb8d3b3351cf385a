"""What can be served, and by which names: files, folders and adapters, loaded or not.

Knows no engine's state and no HTTP. A folder is looked at again when a name is unknown or a list is
asked for, so a file that is put there is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve.engine.errors import ModelLoadError
from serve.engine.sizing import header_of
from serve.errors import ConfigError

if TYPE_CHECKING:
    from serve.config import Settings
    from serve.engine.config import AdapterConfig, EngineConfig
    from serve.engine.request import AdapterMix

_ANY_TAG = ":latest"  # what Ollama's clients put behind a name that has no tag


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One model file, how it is served, and the name that clients use."""

    name: str
    engine: EngineConfig
    template_file: str | None = None

    @property
    def path(self) -> Path:
        """Return the file."""
        return Path(self.engine.model)

    @property
    def adapters(self) -> tuple[AdapterConfig, ...]:
        """Return its adapters, numbered as they stand."""
        return self.engine.adapters


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a name means. `mix` is set when it names an adapter of the model."""

    name: str
    spec: ModelSpec
    mix: AdapterMix | None = None


class Catalogue:
    """The models by name, the default one first."""

    def __init__(self, settings: Settings, first: Path | None) -> None:
        """`first` is the file of [model]. Raises: ConfigError."""
        self._settings = settings
        self._fixed = _fixed_specs(settings, first)
        self.specs: dict[str, ModelSpec] = {}
        self.refresh()
        if not self.specs:
            raise ConfigError(f"there is no GGUF in models.folder {settings.models.folder}")

    def refresh(self) -> None:
        """Look at the folder again."""
        specs = {spec.name: spec for spec in self._fixed}
        files = {spec.path.resolve() for spec in self._fixed}
        for path in _files_in(self._settings.models.folder):
            if path.resolve() not in files:
                engine = msgspec.structs.replace(
                    self._settings.engine, model=str(path), adapters=()
                )
                specs.setdefault(path.stem, ModelSpec(name=path.stem, engine=engine))
        self.specs = specs
        self._names = self._all_names()

    def _all_names(self) -> dict[str, Found]:
        names = {name: Found(name=name, spec=spec) for name, spec in self.specs.items()}
        for spec in self.specs.values():
            for number, adapter in enumerate(spec.adapters):
                if adapter.name in names:
                    raise ConfigError(f"two models or adapters are named {adapter.name!r}")
                mix = ((number, adapter.scale),)
                names[adapter.name] = Found(name=adapter.name, spec=spec, mix=mix)
        return names

    @property
    def default(self) -> Found:
        """Return what a request gets that names nothing."""
        return next(iter(self._names.values()))

    @property
    def names(self) -> list[str]:
        """Return every name, adapters included."""
        return list(self._names)

    def all(self) -> list[Found]:
        """Return everything that can be asked for, as it is now."""
        self.refresh()
        return list(self._names.values())

    def find(self, name: str | None, *, exact: bool = False) -> Found | None:
        """Return what a name means; None when it means nothing.

        While there is only one name, any will do: editors send names of their own. `exact` is for
        questions about a name itself.
        """
        if not name:
            return None if exact else self.default
        if len(self._names) == 1 and not exact:
            return self.default
        bare = name.removesuffix(_ANY_TAG)
        if bare not in self._names:
            self.refresh()
        return self._names.get(bare)


def _fixed_specs(settings: Settings, first: Path | None) -> list[ModelSpec]:
    specs = []
    if first is not None:
        specs.append(
            ModelSpec(
                name=settings.model.alias or first.stem,
                engine=msgspec.structs.replace(settings.engine, model=str(first)),
                template_file=settings.model.template_file,
            )
        )
    for listed in settings.models.files:
        path = Path(listed.file).expanduser()
        if not path.is_file():
            raise ConfigError(f"models.files names {path}, which is no file")
        length = listed.context_length or settings.engine.context_length
        engine = msgspec.structs.replace(
            settings.engine, model=str(path), context_length=length, adapters=listed.adapters
        )
        name = listed.name or path.stem
        if any(spec.name == name for spec in specs):
            raise ConfigError(f"two models are named {name!r}; give one another name")
        specs.append(ModelSpec(name=name, engine=engine, template_file=listed.template_file))
    return specs


def _files_in(folder: str | None) -> list[Path]:
    """Return the models of a folder and those below; parts of split files but the first left out.

    Raises: ConfigError.
    """
    if folder is None:
        return []
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError(f"models.folder is {root}, which is no folder")
    found = sorted(path for path in root.rglob("*.gguf") if path.is_file())
    return [path for path in found if _is_whole(path.stem) and not _is_adapter(path)]


def _is_adapter(path: Path) -> bool:
    """Say whether a file changes a model instead of being one; a broken one is listed and told."""
    try:
        return header_of(path).is_adapter
    except ModelLoadError:
        return False


def _is_whole(stem: str) -> bool:
    parts = stem.rsplit("-", 3)
    is_part = len(parts) == 4 and parts[2] == "of" and parts[1].isdigit() and parts[3].isdigit()
    return not is_part or int(parts[1]) == 1
