"""What a run would do, decided before any work: types, source, hash, and runs already there."""

from importlib.metadata import version
from pathlib import Path

import msgspec

from quantize.budget import artifact as budget_artifact
from quantize.config import QuantizeConfig
from quantize.digest import sha256_code, sha256_json
from quantize.errors import ConfigError, LibraryError
from quantize.imatrix import artifact as imatrix_artifact
from quantize.llama.cpp_source import installed_version, pin
from quantize.llama.gguf_header import GgufHeader
from quantize.llama.quant_types import QuantType, resolve
from quantize.llama.quantizer import TypeChoice, planned
from quantize.resume import belongs_to
from quantize.run import find_by_hash, is_complete, read_manifest, say
from quantize.shapes import foreseen, sketched
from quantize.source import Source
from quantize.source import resolve as resolve_source
from quantize.space import parse_bytes

STAGE = "quantize"
MAKES_FILES = "quantize.build"  # this module and all it imports: every line that shapes bytes


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a run would do, decided before any work."""

    source: Source
    types: tuple[QuantType, ...]
    config: QuantizeConfig
    config_hash: str
    existing: Path | None
    unfinished: Path | None


def plan(source_text: str | None, config: QuantizeConfig, *, force: bool = False) -> Plan:
    """Check types and source, and look for a run that is already there."""
    resolve(config.types, has_imatrix=config.imatrix.source != "none")  # before reading the source
    if config.recommend.ram:
        parse_bytes(config.recommend.ram)
    budget_artifact.require_valid(config.budget)
    source, chosen = resolve_source(source_text)
    say(chosen)
    has_imatrix = imatrix_artifact.is_available(source, config.imatrix)
    types = tuple(resolve(config.types, has_imatrix=has_imatrix))
    notes = _require_fit(source, types, config, has_imatrix=has_imatrix)
    digest = _config_hash(source, types, config)
    runs = [] if force else find_by_hash(STAGE, digest)
    complete = [
        run for run in runs if is_complete(run) and read_manifest(run).config_hash == digest
    ]
    for note in () if complete else notes:
        say(note)
    unfinished = [run for run in runs if not is_complete(run) and belongs_to(run, digest)]
    return Plan(
        source=source,
        types=types,
        config=config,
        config_hash=digest,
        existing=complete[0] if complete else None,
        unfinished=unfinished[0] if unfinished else None,
    )


def _require_fit(
    source: Source, types: tuple[QuantType, ...], config: QuantizeConfig, *, has_imatrix: bool
) -> list[str]:
    """Hold matrix, types and budget against the tensors' shapes, where these are known.

    Returns what is to be said of types that not all tensors can take.

    Raises:
        ImatrixError: for a file that is no importance matrix, or another model's.
        ConfigError: for a type these rows do not fit, or a budget out of reach.
    """
    header = foreseen(source)
    imatrix_artifact.require_usable(config.imatrix, header)
    if header is None:
        return []
    with sketched(header) as sketch:
        budget_artifact.require_in_reach(config.budget, header, sketch, has_imatrix=has_imatrix)
        lines = [_fallbacks(header, sketch, entry) for entry in types]
    return [line for line in lines if line is not None]


def _fallbacks(header: GgufHeader, sketch: Path, entry: QuantType) -> str | None:
    """Return which tensors of a model will not hold a type, or None.

    Raises:
        ConfigError: when llama.cpp has no other type for those.
    """
    try:
        return planned(sketch, TypeChoice(quant_type=entry)).explain(entry.name)
    except LibraryError as error:
        length = entry.block_length
        odd = [t for t in header.tensors if len(t.shape) > 1 and t.shape[0] % length]
        if not odd:
            raise
        raise ConfigError(
            f"{entry.name} takes rows in blocks of {length}; {odd[0].name} has rows of "
            f"{odd[0].shape[0]}, and llama.cpp knows no other type for them. q8_0 and q4_0 have "
            "blocks of 32"
        ) from error


def _config_hash(source: Source, types: tuple[QuantType, ...], config: QuantizeConfig) -> str:
    probed = config.budget.is_asked
    used = probed or any(entry.uses_imatrix for entry in types)
    return sha256_json(
        {
            "config": config.shaping(),
            "imatrix": imatrix_artifact.identity(source, config.imatrix) if used else None,
            "probes": imatrix_artifact.text_hashes(source, config.imatrix) if probed else None,
            "inputs": [source.sha256],
            "versions": _shaping_versions(),
            "code": sha256_code(MAKES_FILES),
        }
    )


def warnings(source: Source) -> list[str]:
    """Return what the user should know about a source before the work starts."""
    held = source.base_model.quantized_from
    if held is None:
        return []
    if source.kind == "gguf":
        return [f"{source.path} is already quantized ({held}): every further type adds to its loss"]
    return [f"the base came out of a {held} file: comparisons between types are artefacts of that"]


def _shaping_versions() -> dict[str, str]:
    """Return the tools whose version may change the bytes of a file."""
    return {
        "llama-cpp-python": installed_version(),
        "llama.cpp": pin().llama_cpp_commit,
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
