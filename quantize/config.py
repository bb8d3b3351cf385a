"""The configuration of a quantize run, its overrides and its checks; reads no environment.

Only the first part shapes the bytes of the files (`QuantizeConfig.shaping`) and so enters the
run's hash. How a file is measured, verified or recommended does not change it.
"""

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from quantize.errors import ConfigError

DEFAULT_TYPES = ("f16", "q8_0", "q5_k_m", "q4_k_m", "q4_0")
_FULL_ROUNDS = 5


KvType = Literal["f16", "q8_0", "q4_0"]


class MergeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say how the adapter is folded into the base."""

    dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    """`auto` keeps a 16-bit base as it is and makes a 32-bit one float16."""


class ImatrixConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where the importance matrix comes from."""

    source: str = "own"
    """`own` collects it on the run's training examples and `text`, where there are any; `none`
    uses none; anything else is a file."""
    tokens: int = 4096
    """Tokens it is collected on."""
    max_sequence_tokens: int = 512
    examples: str = ""
    """A file of examples such as a run's train.jsonl, for a source that brings none."""
    text: str = ""
    """A text file to collect on beside the examples."""

    def __post_init__(self) -> None:
        """Refuse budgets that leave nothing to collect on."""
        if not self.source:
            raise ConfigError("imatrix.source is empty; it is own, none or a file")
        for name in ("tokens", "max_sequence_tokens"):
            if getattr(self, name) < 16:
                raise ConfigError(f"imatrix.{name} is {getattr(self, name)}; it must be 16 or more")

    @property
    def file(self) -> Path | None:
        """Return the named file, or None."""
        return None if self.source in ("own", "none") else Path(self.source).expanduser()


class BudgetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a file of a given size, with a type chosen for each tensor."""

    target_size: str = ""
    """Largest file, such as 700M; units are powers of 1024."""
    target_bpw: float = 0.0
    """The same as bits per weight of the tensors."""
    types: tuple[str, ...] = ()
    """Tensor types to choose from; empty: all that are fit for it."""
    embedding_type: str = ""
    output_type: str = ""
    probes: int = 32
    """Groups of tensors whose effect on the model's answers is measured."""
    probe_tokens: int = 256
    """Tokens of calibration text a probe reads."""
    compare: int = 1
    """Stock types no larger than the budget that are made beside it for comparison."""

    def __post_init__(self) -> None:
        """Refuse two budgets at once and searches that measure nothing."""
        if self.target_size and self.target_bpw:
            raise ConfigError("give budget.target_size or budget.target_bpw, not both")
        if self.target_bpw < 0 or self.probes < 1 or self.probe_tokens < 32 or self.compare < 0:
            raise ConfigError(
                "budget needs target_bpw ≥ 0, probes ≥ 1, probe_tokens ≥ 32 and compare ≥ 0; "
                f"they are {self.target_bpw}, {self.probes}, {self.probe_tokens}, {self.compare}"
            )

    @property
    def is_asked(self) -> bool:
        """Say whether there is a budget."""
        return bool(self.target_size or self.target_bpw)


class PassAt1Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which programming problems the files are to solve."""

    suite: str = ""
    """`humaneval`, `mbpp` or a file of problems; empty: none."""
    data: str = ""
    """Folder that holds the suites' published files."""
    num_problems: int = 40
    """The first so many of the suite; 0: all."""
    max_tokens: int = 384
    """Longest answer."""
    sandbox: Literal["namespaces", "rlimits"] = "namespaces"

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to solve."""
        if self.num_problems < 0 or self.max_tokens < 1:
            raise ConfigError(
                "measure.pass_at_1 needs num_problems ≥ 0 and max_tokens ≥ 1; they are "
                f"{self.num_problems} and {self.max_tokens}"
            )


class MeasureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bound what a measurement may cost. The defaults take five 135M files through in minutes."""

    scored_tokens: int = 512
    """Held-out response tokens a file is scored on."""
    text_tokens: int = 1024
    """Tokens of the text a file is scored on."""
    max_example_tokens: int = 512
    """Longest example used, prompt and response together; also the window of the text."""
    examples: str = ""
    """A file of held-out examples, for a run whose source brought none."""
    text: str = ""
    """A text file, WikiText-2 for example; empty: Python's language reference."""
    full: bool = False
    """Score all examples and the whole text, and the KV cache types on every file; time more."""
    rounds: int = 3
    """How often each file is timed; files take turns, so that a busy moment hits all alike."""
    prefill_tokens: int = 256
    prefill_rows: tuple[int, ...] = (128, 32, 256)
    """Rows per decode call while a prompt is read; the first is the rate that files compete on."""
    decode_tokens: int = 24
    decode_sequences: tuple[int, ...] = (1, 4, 8)
    """Sequences decoded side by side; the first is the rate that files compete on."""
    n_batch: int = 128
    """Rows per decode call while scoring."""
    kv_types: tuple[KvType, ...] = ("q8_0", "q4_0")
    """KV cache types compared with f16."""
    pass_at_1: PassAt1Config = PassAt1Config()

    def __post_init__(self) -> None:
        """Refuse budgets that leave nothing to measure."""
        numbers = ("scored_tokens", "text_tokens", "prefill_tokens", "decode_tokens", "n_batch")
        for name in (*numbers, "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"measure.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("prefill_rows", "decode_sequences"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1 or max(sizes) > 512:
                raise ConfigError(f"measure.{name} is {list(sizes)}; it takes sizes from 1 to 512")
        if self.max_example_tokens < 16:
            raise ConfigError(
                f"measure.max_example_tokens is {self.max_example_tokens}; it must be at least 16"
            )

    @property
    def num_rounds(self) -> int:
        """Return how often each file is timed."""
        return max(self.rounds, _FULL_ROUNDS) if self.full else self.rounds


class VerifyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State the bounds of the parity gate between the merged model and its f16 file.

    Those of the quantized types stand in `quantize/verify/bounds.py`.
    """

    num_prompts: int = 6
    greedy_tokens: int = 16
    tie_gap_logits: float = 0.1
    """A greedy difference fails where the leading two logits are further apart."""
    server_tie_gap_logits: float = 0.3
    """The same for the server, which computes with flash attention: that moves logits by 0.24."""
    scored_tokens: int = 192
    min_top1_agreement: float = 0.97
    max_mean_kld_nats: float = 0.005
    server: bool = True
    """Serve the smallest file and compare over HTTP."""


class RecommendConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State what a recommended file must satisfy."""

    ram: str = ""
    """What the server may take, such as 4G; empty: three quarters of this machine's memory."""
    context: int = 0
    """Tokens; 0: the server's default, 8192 or what the model was trained on, if that is less."""
    min_tok_s: float = 0.0
    """Decode rate below which no file is recommended; 0: any."""
    max_mean_kld_nats: float = 0.05
    max_perplexity_ratio: float = 1.05

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("context", "min_tok_s", "max_mean_kld_nats", "max_perplexity_ratio"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"recommend.{name} is {value}; it must be a number from 0 on")


class QuantizeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold the effective configuration of one run."""

    name: str = ""
    """Base of the file names; empty: taken from the base model."""
    types: tuple[str, ...] = DEFAULT_TYPES
    merge: MergeConfig = MergeConfig()
    imatrix: ImatrixConfig = ImatrixConfig()
    budget: BudgetConfig = BudgetConfig()
    measure: MeasureConfig = MeasureConfig()
    verify: VerifyConfig = VerifyConfig()
    recommend: RecommendConfig = RecommendConfig()

    def shaping(self) -> dict[str, Any]:
        """Return the part that decides the bytes; the imatrix enters by its content."""
        parts = {"name": self.name, "types": list(self.types), "merge": to_dict(self.merge)}
        return parts | ({"budget": to_dict(self.budget)} if self.budget.is_asked else {})


def to_dict(section: msgspec.Struct) -> dict[str, Any]:
    """Return a section as plain dictionaries and lists."""
    plain: dict[str, Any] = msgspec.to_builtins(section)
    return plain


def load_config(
    path: Path | None, overrides: Sequence[str], types: str | None = None
) -> QuantizeConfig:
    """Read a TOML file, apply `a.b=v` overrides and check every key.

    Raises:
        ConfigError: for an unreadable file, an unknown key or a bad value.
    """
    values = _read_toml(path) if path else {}
    for override in overrides:
        _apply(values, override)
    if types is not None:
        values["types"] = _listed(types)
    _check_keys(values, QuantizeConfig, "")
    try:
        return msgspec.convert(values, QuantizeConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r} is not of the form a.b=value")
    *parents, leaf = key.strip().split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override!r}: {parent} is a value, not a section")
    place[leaf] = _parsed(text.strip(), as_list=key.strip() == "types")


def _parsed(text: str, *, as_list: bool) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return _listed(text) if as_list else text


def _check_keys(values: Mapping[str, Any], section: type[msgspec.Struct], prefix: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(section)}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"unknown key {prefix}{key!s}{_suggestion(key, prefix, known)}")
        kind = known[key]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
            _check_keys(value, kind, f"{prefix}{key}.")


def _suggestion(key: str, prefix: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    return f"; known here: {', '.join(sorted(known))}"
