"""What `--from` names: a finetune run, a Hugging Face folder or a GGUF; told apart and checked.

Knows how to identify a source and its files, not what is done with them.
"""

import json
import re
from pathlib import Path
from typing import Literal

import msgspec

from quantize.digest import sha256_file, sha256_folder, sha256_pairs
from quantize.errors import SourceError
from quantize.examples import read_examples
from quantize.llama.gguf_header import read_header
from quantize.llama.inspect_gguf import main_type
from quantize.run import (
    MANIFEST,
    BaseModelRecord,
    Manifest,
    home,
    is_complete,
    newest_complete,
    read_manifest,
)

_UNQUANTIZED = ("f16", "f32", "bf16")
_FOLDER_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt")
_IDENTIFYING_ROLES = ("adapter", "tokenizer", "chat_template", "base_model", "heldout_examples")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Describe what is to be quantized."""

    kind: Literal["finetune_run", "hf_dir", "gguf"]
    path: Path
    sha256: str
    """Identity of everything in it that shapes the result."""
    size_bytes: int
    name: str
    """Base of the file names."""
    base_model: BaseModelRecord
    weights: Path
    """The folder or file whose weights come first: base, model or GGUF."""
    manifest: Manifest | None = None
    data_licences: tuple[str, ...] = ()

    @property
    def heldout(self) -> Path | None:
        """Return the examples never trained on, when there are conversations among them."""
        return self._conversations("heldout.jsonl")

    @property
    def train_examples(self) -> Path | None:
        """Return the examples trained on, when there are conversations among them."""
        return self._conversations("train.jsonl")

    def _conversations(self, name: str) -> Path | None:
        path = self.path / name
        is_there = self.kind == "finetune_run" and path.is_file()
        return path if is_there and read_examples(path) else None


def resolve(text: str | None) -> tuple[Source, str]:
    """Return the source and a line that says how it was chosen.

    Raises:
        SourceError: when nothing usable is there, with the reason.
    """
    if text is None:
        run = newest_complete("finetune")
        if run is None:
            raise SourceError(
                f"no complete finetune run under {home()[0] / 'runs'}; "
                "train one first (python -m finetune) or name a model with --from"
            )
        return _from_run(run), f"source: {run} (the newest complete finetune run)"
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"--from {text}: no such file or directory")
    source = _from_gguf(path) if path.is_file() else _from_folder(path)
    return source, f"source: {path} ({source.kind})"


def _from_folder(path: Path) -> Source:
    if is_complete(path):
        return _from_run(path)
    if (path / "config.json").is_file():
        return _from_hf(path)
    if (path / "adapter_config.json").is_file():
        raise SourceError(
            f"{path} is a bare adapter; --from takes the finetune run around it, which names the "
            "base model"
        )
    if (path / "log.jsonl").is_file() or (path / "config.toml").is_file():
        raise SourceError(
            f"{path} is an unfinished run (no {MANIFEST}); finish it with "
            f"python -m finetune --resume {path}"
        )
    raise SourceError(
        f"{path} is neither a finetune run ({MANIFEST}) nor a Hugging Face folder (config.json)"
    )


def _from_run(run: Path) -> Source:
    manifest = read_manifest(run)
    if manifest.stage != "finetune":
        raise SourceError(
            f"{run} is a {manifest.stage} run; --from takes a finetune run, its merged/ folder or "
            "a GGUF file"
        )
    _require_outputs(run, manifest)
    base = manifest.base_model
    identity = [(o.path, o.sha256) for o in manifest.outputs if o.role in _IDENTIFYING_ROLES]
    identity.append(("base", base.sha256 or base.ref))
    return Source(
        kind="finetune_run",
        path=run,
        sha256=sha256_pairs(identity),
        size_bytes=sum(output.size_bytes for output in manifest.outputs),
        name=model_name(base.ref),
        base_model=base,
        weights=_base_folder(run, base),
        manifest=manifest,
        data_licences=tuple(
            record.licence for record in manifest.inputs if record.role == "data" and record.licence
        ),
    )


def _require_outputs(run: Path, manifest: Manifest) -> None:
    """Compare the small files with the manifest's digests, the large ones with its sizes."""
    for output in manifest.outputs:
        path = run / output.path
        if output.role not in _IDENTIFYING_ROLES:
            continue
        if not path.is_file():
            raise SourceError(f"{run}: {output.path} is in the manifest but not on disk")
        if path.stat().st_size != output.size_bytes or (
            output.role != "base_model" and sha256_file(path) != output.sha256
        ):
            raise SourceError(
                f"{path} is not the file the manifest describes (its size or SHA-256 differs); "
                "train again, or restore it"
            )
    if not manifest.paths("adapter"):
        raise SourceError(f"{run} holds no adapter")


def _base_folder(run: Path, base: BaseModelRecord) -> Path:
    if base.path is None:
        raise SourceError(f"{run}: the manifest's base_model.path is missing")
    if base.kind == "hub":
        return _from_hub(base.path)
    folder = run / base.path  # an absolute path stays as it is
    if not (folder / "config.json").is_file():
        raise SourceError(f"the base model of {run} is not at {folder}; put it back there")
    return folder


def _from_hub(reference: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = reference.partition("@")
    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt"]
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise SourceError(
            f"the base model {reference} is neither in the hub cache nor to be fetched: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _from_hf(path: Path) -> Source:
    files = folder_files(path)
    if not any(file.suffix == ".safetensors" for _, file in files):
        raise SourceError(f"{path} has a config.json but no weights as .safetensors")
    digest = sha256_folder(files)
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return Source(
        kind="hf_dir",
        path=path,
        sha256=digest,
        size_bytes=sum(file.stat().st_size for _, file in files),
        name=model_name(path.resolve().name),
        base_model=BaseModelRecord(
            ref=path.resolve().name,
            sha256=digest,
            kind="hf_dir",
            path=str(path.resolve()),
            dtype=settings.get("dtype") or settings.get("torch_dtype"),
        ),
        weights=path,
    )


def _from_gguf(path: Path) -> Source:
    header = read_header(path)
    held = main_type(header)
    digest = sha256_file(path)
    return Source(
        kind="gguf",
        path=path,
        sha256=digest,
        size_bytes=header.file_bytes,
        name=model_name(path.name),
        base_model=BaseModelRecord(
            ref=header.text("edgesmith.base_model.ref") or path.name,
            sha256=header.text("edgesmith.base_model.sha256") or digest,
            kind="gguf",
            licence=header.text("edgesmith.base_model.licence") or header.text("general.license"),
            dtype=held,
            quantized_from=None if held in _UNQUANTIZED else held.upper(),
        ),
        weights=path,
    )


def folder_files(folder: Path) -> list[tuple[str, Path]]:
    """Return the files of a Hugging Face folder that shape a model, by name."""
    found = {path for pattern in _FOLDER_FILES for path in folder.glob(pattern) if path.is_file()}
    return [(path.name, path) for path in sorted(found)]


def model_name(reference: str) -> str:
    """Return a file-name base from a path, a hub id or a package reference.

    `org/Model-1B@main` and `pkg:Model-1B.Q4_1.gguf` both become `Model-1B`.
    """
    last = re.split(r"[/\\:]", reference.rstrip("/"))[-1].partition("@")[0]
    last = re.sub(r"(?i)\.gguf$", "", last)
    last = re.sub(r"(?i)[.\-](i?q\d\w*|tq\d\w*|f16|f32|bf16|fp16)$", "", last)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "model"
