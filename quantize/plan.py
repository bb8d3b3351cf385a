"""What a run would do, decided before any work: types, source, hash, and runs already there."""

from importlib.metadata import version
from pathlib import Path

import msgspec

from quantize.budget import artifact as budget_artifact
from quantize.config import QuantizeConfig
from quantize.digest import sha256_code, sha256_json
from quantize.imatrix import artifact as imatrix_artifact
from quantize.llama.cpp_source import installed_version, pin
from quantize.llama.quant_types import QuantType, resolve
from quantize.resume import belongs_to
from quantize.run import find_by_hash, is_complete, read_manifest, say
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
    parse_bytes(config.recommend.ram)
    budget_artifact.require_valid(config.budget)
    source, chosen = resolve_source(source_text)
    say(chosen)
    has_imatrix = imatrix_artifact.is_available(source, config.imatrix)
    types = tuple(resolve(config.types, has_imatrix=has_imatrix))
    digest = _config_hash(source, types, config)
    runs = [] if force else find_by_hash(STAGE, digest)
    complete = [
        run for run in runs if is_complete(run) and read_manifest(run).config_hash == digest
    ]
    unfinished = [run for run in runs if not is_complete(run) and belongs_to(run, digest)]
    return Plan(
        source=source,
        types=types,
        config=config,
        config_hash=digest,
        existing=complete[0] if complete else None,
        unfinished=unfinished[0] if unfinished else None,
    )


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
