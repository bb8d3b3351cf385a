"""The quant types llama.cpp can write, under its own names; loads the library to ask it.

The table comes from the library's `LLAMA_FTYPE_*` constants, so a new release brings its types
along. What the constants do not tell is written here: the two aliases that leave out the mix, the
types that need an importance matrix, and those the library reads but does not write.
"""

import difflib
from collections.abc import Iterable

import msgspec

from quantize.errors import ConfigError
from quantize.llama.ggml_types import by_name

_PREFIXES = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")
_ALIASES = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
# Source: tensor_requires_imatrix in llama-quant.cpp, and the mixes that hold such tensors.
_NEED_IMATRIX = frozenset(
    {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs", "q2_k_s"}
)
# Mixes whose main tensor type has another name. Source: llama_ftype_get_default_type.
_MAIN = {"iq2_m": "iq2_s", "iq3_xs": "iq3_s", "iq3_m": "iq3_s", "mxfp4_moe": "mxfp4"}
_IGNORE_IMATRIX = frozenset({"f32", "f16", "bf16", "q8_0"})
_READ_ONLY = frozenset({"nvfp4"})


class QuantType(msgspec.Struct, frozen=True, kw_only=True):
    """Name one type and what it needs."""

    name: str
    ftype: int
    description: str
    needs_imatrix: bool

    @property
    def block_length(self) -> int:
        """Return what a row's length must be a multiple of; other rows take another type."""
        main = _MAIN.get(self.name, self.name)
        stored = by_name(main) or by_name(main.rpartition("_")[0])
        assert stored is not None  # every mix is named after a tensor type, or listed above
        return stored.block_length

    @property
    def uses_imatrix(self) -> bool:
        """Say whether an importance matrix changes its bytes."""
        return self.name not in _IGNORE_IMATRIX


def table() -> dict[str, QuantType]:
    """Return every type the library writes, by lower-case name, in its own order."""
    from llama_cpp import llama_cpp as lib

    found: dict[str, QuantType] = {}
    for constant, value in vars(lib).items():
        prefix = next((prefix for prefix in _PREFIXES if constant.startswith(prefix)), None)
        if prefix is None:
            continue
        name = constant.removeprefix(prefix).lower()
        if name not in _READ_ONLY:
            described = lib.llama_ftype_name(value) or b""
            found[name] = QuantType(
                name=name,
                ftype=value,
                description=described.decode(),
                needs_imatrix=name in _NEED_IMATRIX,
            )
    return found


def aliases() -> dict[str, str]:
    """Return the short names and what they stand for."""
    return dict(_ALIASES)


def name_of(ftype: int) -> str | None:
    """Return the lower-case name of a file's `general.file_type`, or None."""
    return next((entry.name for entry in table().values() if entry.ftype == ftype), None)


def resolve(names: Iterable[str], *, has_imatrix: bool) -> list[QuantType]:
    """Return the named types once each, in the order given.

    Raises:
        ConfigError: for an unknown type (with the list), none at all, or one that needs an
            importance matrix where there is none.
    """
    known = table()
    chosen: dict[str, QuantType] = {}
    for name in names:
        key = name.strip().lower()
        entry = known.get(_ALIASES.get(key, key))
        if entry is None:
            raise ConfigError(_unknown(name, known))
        if entry.needs_imatrix and not has_imatrix:
            raise ConfigError(
                f"quant type {entry.name} needs an importance matrix and there is none; a run with "
                "training examples brings one, --imatrix FILE names one, --set imatrix.text=FILE "
                "a text to collect it on. Without: q2_k, q3_k_m or iq3_s"
            )
        chosen[entry.name] = entry
    if not chosen:
        raise ConfigError("no quant types given; example: --types f16,q8_0,q4_k_m")
    return list(chosen.values())


def _unknown(name: str, known: dict[str, QuantType]) -> str:
    close = difflib.get_close_matches(name.lower(), [*known, *_ALIASES], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown quant type {name!r}; {hint}known: {', '.join([*known, *_ALIASES])}"
