"""The byte budget of a run: searched once, kept in the run, taken up again where it was cut off.

Knows which text the model is probed on and where the result lies; not how types are chosen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from quantize.budget.reach import quantizable, require_possible, target_bytes
from quantize.budget.search import Found, Group, Search
from quantize.config import BudgetConfig, QuantizeConfig
from quantize.digest import sha256_json
from quantize.errors import RunError
from quantize.examples import ScoredText
from quantize.imatrix.calibration import calibration
from quantize.llama.ggml_tensor import Float32
from quantize.llama.gguf_header import GgufHeader
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice
from quantize.progress import Steps
from quantize.resume import Ledger
from quantize.run import say, write_json
from quantize.space import parse_bytes

FOLDER = "budget"
_UNFINISHED = "unfinished.json"
_LEAST_SHARE = 0.99
"""A file should end within a hundredth of its budget."""


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    identity: str
    groups: tuple[Group, ...]


def label(config: BudgetConfig) -> str:
    """Return what stands for a type in a file's name: `fit_700m` or `fit_4.5bpw`."""
    if config.target_size:
        return f"fit_{config.target_size.strip().lower()}"
    return f"fit_{config.target_bpw:g}bpw"


def require_valid(config: BudgetConfig) -> None:
    """Refuse a size that cannot be read, before any work.

    Raises:
        ConfigError: with examples of what can.
    """
    size_of(config)


def require_in_reach(
    config: BudgetConfig, header: GgufHeader, sketch: Path, *, has_imatrix: bool
) -> None:
    """Refuse a budget that the tensors' shapes rule out.

    Raises:
        BudgetError: with the smallest file there can be.
    """
    if config.is_asked:
        wanted = target_bytes(config, header, size_of(config))
        require_possible(config, header, quantizable(sketch), wanted, has_imatrix=has_imatrix)


def size_of(config: BudgetConfig) -> int | None:
    """Return the bytes asked for, or None where bits per weight are."""
    return parse_bytes(config.target_size) if config.target_size else None


def provide(
    run: Path,
    reference: Path,
    config: QuantizeConfig,
    means: Mapping[str, Float32] | None,
    *,
    examples: Path | None,
    ledger: Ledger,
    steps: Steps,
) -> Found:
    """Return the types that fit the budget, searching when that was not done yet."""
    budget = config.budget
    path = run / FOLDER / f"{label(budget)}.json"
    if ledger.valid(path):
        return read(path)
    path.parent.mkdir(exist_ok=True)
    texts = probe_texts(reference, config, examples)
    search = Search(reference, budget, means, texts)
    kept = path.with_name(_UNFINISHED)
    identity = sha256_json(msgspec.to_builtins([budget, texts]))

    def keep(groups: Sequence[Group]) -> None:
        write_json(kept, _Progress(identity=identity, groups=tuple(groups)))

    with steps.step(f"search types for {label(budget)}") as draw:
        found = search.run(
            target_bytes(budget, search.header, size_of(budget)),
            known=_known(kept, identity),
            on_step=draw,
            on_group=keep,
        )
    write_json(path, found)
    kept.unlink(missing_ok=True)
    ledger.record(path)
    return found


def choice(found: Found) -> TypeChoice:
    """Return what to quantize with."""
    return TypeChoice(quant_type=table()[found.quant_type], tensor_types=found.types)


def require_within(path: Path, found: Found) -> None:
    """Check a written file against its budget, and say when it ends far below."""
    size = path.stat().st_size
    assert size <= found.target_bytes  # the search counts every byte of a file
    if size < found.target_bytes * _LEAST_SHARE:
        say(
            f"{path.name} has {size:,} bytes, more than 1% below the budget of "
            f"{found.target_bytes:,}: no larger choice of types fits or loses less"
        )


def read(path: Path) -> Found:
    """Return a kept search.

    Raises:
        RunError: when it is not readable.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Found)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path} is not readable ({error}); quantize again") from error


def _known(path: Path, identity: str) -> tuple[Group, ...]:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Progress)
    except (OSError, msgspec.MsgspecError):
        return ()
    return kept.groups if kept.identity == identity else ()


def probe_texts(reference: Path, config: QuantizeConfig, examples: Path | None) -> list[ScoredText]:
    """Return calibration text scored whole: a prompt's tokens tell as much of a weight's effect."""
    text = calibration(reference, examples, config.imatrix, num_tokens=config.budget.probe_tokens)
    return [
        ScoredText(prompt_token_ids=list(ids[:1]), response_token_ids=list(ids[1:]))
        for ids in text.sequences
        if len(ids) > 1
    ]
