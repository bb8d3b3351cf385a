"""The importance matrix of a run: collected once and kept in it, or adopted from a named file.

Knows which text and which model it belongs to; not how types use it.
"""

from pathlib import Path

import msgspec

from quantize.config import ImatrixConfig
from quantize.digest import sha256_file, sha256_json
from quantize.errors import ImatrixError
from quantize.imatrix import file as imatrix
from quantize.imatrix.calibration import calibration
from quantize.imatrix.collect import collect
from quantize.imatrix.file import Imatrix
from quantize.llama.cpp_source import pin
from quantize.llama.ggml_tensor import Float32
from quantize.llama.gguf_header import GgufHeader, read_header
from quantize.llama.metadata import PREFIX
from quantize.progress import Steps
from quantize.resume import Ledger
from quantize.run import InputRecord
from quantize.source import Source

FILE = "imatrix/imatrix.gguf"
"""In a folder of its own: it is no model."""
_CHECKPOINT = "imatrix/unfinished.npz"


class UsedImatrix(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what quantizing takes from it."""

    path: Path
    sha256: str
    means: dict[str, Float32]


def examples(source: Source, config: ImatrixConfig) -> Path | None:
    """Return the examples to collect on: the named ones, else the run's own.

    Raises:
        ImatrixError: when named ones are not there.
    """
    if not config.examples:
        return source.train_examples
    path = Path(config.examples).expanduser()
    if not path.is_file():
        raise ImatrixError(f"imatrix.examples: no such file {path}")
    return path


def is_available(source: Source, config: ImatrixConfig) -> bool:
    """Say whether the run will have an importance matrix.

    Raises:
        ImatrixError: when a named file is not there.
    """
    if config.file is not None and not config.file.is_file():
        raise ImatrixError(f"imatrix.source: no such file {config.file}; it is own, none or a file")
    if config.source == "own":
        return examples(source, config) is not None or bool(config.text)
    return config.file is not None


def require_usable(config: ImatrixConfig, model: GgufHeader | None) -> None:
    """Refuse a named file that is no importance matrix, or not one of this model's shape.

    Raises:
        ImatrixError: with the first tensor that differs, where the model's shapes are known.
    """
    if config.file is not None:
        held = imatrix.read(config.file)
        if model is not None:
            imatrix.require_fit(config.file, held, model)


def identity(source: Source, config: ImatrixConfig) -> dict[str, object]:
    """Return what decides its values beside the model, for the run's hash."""
    if not is_available(source, config):
        return {"source": "none"}
    if config.file is not None:
        return {"source": sha256_file(config.file)}
    return {
        "source": "own",
        "texts": text_hashes(source, config),
        "tokens": config.tokens,
        "max_sequence_tokens": config.max_sequence_tokens,
    }


def text_hashes(source: Source, config: ImatrixConfig) -> list[str]:
    """Return the hashes of the files that calibration text comes from."""
    files = (examples(source, config), Path(config.text) if config.text else None)
    return [sha256_file(path) for path in files if path is not None]


def consumed(config: ImatrixConfig) -> tuple[InputRecord, ...]:
    """Return the manifest's record of a named file."""
    path = config.file
    if path is None or not path.is_file():
        return ()
    size, digest = path.stat().st_size, sha256_file(path)
    return (InputRecord(role="imatrix", ref=str(path.resolve()), sha256=digest, size_bytes=size),)


def provide(
    run: Path,
    reference: Path,
    source: Source,
    config: ImatrixConfig,
    *,
    ledger: Ledger,
    steps: Steps,
) -> UsedImatrix | None:
    """Return the run's importance matrix, collecting it on `reference` when it is not there yet.

    Raises:
        ImatrixError: when a named one is damaged or was made for another model.
    """
    if not is_available(source, config):
        return None
    if config.file is not None:
        return _used(config.file, sha256_file(config.file), reference)
    path = run / FILE
    known = ledger.valid(path)
    if known is None:
        _collect(run, reference, source, config, steps)
        known = ledger.record(path)
    return _used(path, known.sha256, reference)


def _used(path: Path, sha256: str, reference: Path) -> UsedImatrix:
    held = imatrix.read(path)
    imatrix.require_fit(path, held, read_header(reference))
    return UsedImatrix(path=path, sha256=sha256, means=held.means())


def _collect(
    run: Path, reference: Path, source: Source, config: ImatrixConfig, steps: Steps
) -> None:
    path = run / FILE
    path.parent.mkdir(exist_ok=True)
    text = calibration(reference, examples(source, config), config, num_tokens=config.tokens)
    model_sha256 = sha256_file(reference)
    recipe: dict[str, str | int] = {
        "imatrix.model_sha256": model_sha256,
        "imatrix.texts": ",".join(f"{ref.ref}:{ref.sha256}" for ref in text.texts),
        "imatrix.tokens_sha256": text.sha256,
        "imatrix.num_tokens": text.num_tokens,
        "llama_cpp.commit": pin().llama_cpp_commit,
    }
    with steps.step(f"collect the importance matrix on {text.num_tokens} tokens") as draw:
        collected = collect(
            reference,
            text.sequences,
            checkpoint=run / _CHECKPOINT,
            identity=sha256_json(recipe),
            on_sequence=draw,
        )
        matrix = Imatrix(
            entries=collected.entries,
            datasets=tuple(ref.ref for ref in text.texts),
            num_chunks=len(text.sequences),
            chunk_tokens=config.max_sequence_tokens,
        )
        partial = path.with_name(path.name + ".tmp")
        imatrix.write(partial, matrix, {PREFIX + key: value for key, value in recipe.items()})
        partial.replace(path)
        collected.forget()
