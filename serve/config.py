"""The server's settings: one tree, from TOML, overridable as `--set engine.slots=2`.

Knows neither the model nor HTTP. Every default has its reason beside it; `None` means that the
room which knows better decides (the engine from the model and the machine).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from serve.chat.anchors import Liberties
from serve.engine.config import AdapterConfig, EngineConfig
from serve.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen. `port` 0 takes a free one.

    `ping_seconds`: a stream that has nothing to say sends a comment this often, well below the
    30 s after which common proxies give up. `shutdown_grace_seconds`: how long answers under way
    may go on after SIGTERM; short, since an editor retries and a person waits for the prompt.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    ping_seconds: float = 10.0
    shutdown_grace_seconds: int = 2

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; it must be 0 to 65535")
        if self.ping_seconds <= 0 or self.shutdown_grace_seconds < 0:
            raise ValueError("ping_seconds must be above 0 and shutdown_grace_seconds at least 0")


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to serve. `file` is a GGUF or a quantize run; None takes the newest run's.

    `alias` is the name clients see (default: the file's). `template_file` replaces the GGUF's chat
    template, for files that have none or a wrong one.
    """

    file: str | None = None
    alias: str | None = None
    template_file: str | None = None


class ListedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `[[models.files]]`; what is left out is as for the others.

    `name` is what clients ask for (default: the file's).
    """

    file: str
    name: str | None = None
    template_file: str | None = None
    context_length: int | None = None
    adapters: tuple[AdapterConfig, ...] = ()


class ModelsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """More models than one: each is loaded when a request first names it.

    `folder` is searched for GGUFs, subfolders too; `files` are listed one by one. The default
    model is that of [model], else the first listed, else the folder's first by name.
    `budget_bytes`: what all loaded models may take together, files and contexts. None is three
    quarters of the memory that is free at the start, so that the rest of the machine can breathe.
    `keep_alive_seconds`: how long a model stays that nobody asks, unless its last request said
    otherwise (`keep_alive`); below 0 for as long as there is room. Five minutes: a pause in
    someone's work, not the night.
    """

    folder: str | None = None
    files: tuple[ListedModel, ...] = ()
    budget_bytes: int | None = None
    keep_alive_seconds: float = 300.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.budget_bytes is not None and self.budget_bytes <= 0:
            raise ValueError(f"budget_bytes is {self.budget_bytes}; it must be above 0")

    @property
    def is_used(self) -> bool:
        """Say whether there is anything beyond [model]."""
        return self.folder is not None or bool(self.files)


class EngineSettings(EngineConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The engine's own settings; its file gives a reason for every default.

    `model` is filled in once the file is known: [model] names it. `tune`: keep figures of this
    machine in the user's cache folder when `tuning_folder` names no other.
    """

    model: str = ""
    tune: bool = True


class SamplingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For requests that send none. None: the GGUF's own, else the defaults for code.

    `seed`: with one, equal requests get equal answers unless they send another; None draws anew.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask. `api_key_file` holds one key a line.

    Without a key only loopback addresses are bound: a model server on a shared network is an open
    door. `allow_public_without_key` is for those who guard the door themselves.

    A browser lets any web page send requests to this machine, so names that a page could have
    made up are refused. `allowed_hosts` are more names this server is reached by ("*": any), of a
    reverse proxy for example. `cors_origins` are the pages that may ask,
    "http://localhost:3000" or "vscode-webview://*" for example; none by default.

    `tls_cert` and `tls_key` are PEM files; with both the server speaks HTTPS.
    """

    api_key_file: str | None = None
    allow_public_without_key: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        """A certificate is of no use without its key."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; set both or neither")


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Upper bounds on one request: generous for editors, small enough to keep memory bounded."""

    body_bytes: int = 16 * 2**20  # a context of a million tokens as text is about 4 MiB
    messages: int = 4096
    stop_strings: int = 64  # editors send a dozen
    prompts: int = 32  # prompts of one completions request
    embedding_inputs: int = 2048  # OpenAI's own bound
    choices: int = 8  # `n`
    logit_bias: int = 1024
    top_logprobs: int = 20  # OpenAI's own bound
    # Values of one request's echoed prompts: tokens times one more than their alternatives; some
    # 300 bytes each until they are sent.
    prompt_logprobs: int = 262_144


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How dialects are read.

    `normalise_nonces`: take the `cch=` value that Claude Code draws anew for each call, at the
    very start of its prompt, for a constant one; as sent it would defeat the prefix cache.

    `keep_ids`: a conversation that comes back begins with the ids that were generated, where its
    text is the same; tokenized anew, it may be read in other tokens, and from the beginning.

    `debug_cache`: GET /debug/cache says of the last prompts how much was read before, which token
    differed first, and why. It keeps those prompts in memory.

    `stored_responses` and `stored_response_bytes` bound what the Responses dialect keeps in memory
    for `previous_response_id`, each API key's own; with 0 nothing is stored. An agent at work goes
    on from the last one only.

    `slots`, `metrics` and `page` are what shows how the server is used, and by whom; each can be
    switched off where others reach it.
    """

    normalise_nonces: bool = True
    keep_ids: bool = True
    debug_cache: bool = False
    stored_responses: int = 256
    stored_response_bytes: int = 64 * 2**20
    slots: bool = True
    metrics: bool = True
    page: bool = True


class FimSettings(Liberties, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fill-in-the-middle prompts are laid out; `chat.anchors` gives a reason for each.

    `instruct`: ask a model that has no tokens for it in words, through its chat template. Off,
    since such answers are weaker and an editor shows them as if they were not.
    """

    instruct: bool = False


class ToolSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tools reach the model.

    `generic`: put them into words where the chat template knows none. On, since agents send tools
    with every request and show nothing but an error otherwise; off, such requests are a 400.
    """

    generic: bool = True


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole tree: one table of the TOML file each."""

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    models: ModelsSettings = ModelsSettings()
    engine: EngineSettings = EngineSettings()
    sampling: SamplingSettings = SamplingSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitSettings = LimitSettings()
    api: ApiSettings = ApiSettings()
    fim: FimSettings = FimSettings()
    tools: ToolSettings = ToolSettings()


def load(path: Path | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Read the file and apply `a.b=value` overrides; values are TOML, or plain strings.

    Raises:
        ConfigError: an unreadable file, an unknown key, a value of the wrong type or range.
    """
    tree = _read(path) if path else {}
    for override in overrides:
        _apply(tree, override)
    _refuse_unknown(tree, Settings, "")
    engine = tree.get("engine")
    if isinstance(engine, dict) and "model" in engine:
        raise ConfigError("unknown configuration key engine.model; did you mean model.file?")
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    *tables, last = key.strip().split(".")
    if not separator or not tables:
        raise ConfigError(
            f"--set takes table.key=value, engine.slots=2 for example; got {override}"
        )
    for table in tables:
        child = tree.setdefault(table, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {table} is a value, not a table")
        tree = child
    tree[last] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_unknown(tree: Mapping[str, Any], kind: type, where: str) -> None:
    """Name the first unknown key and the known one that looks most like it."""
    hints = get_type_hints(kind)
    for key, value in tree.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            remedy = f"did you mean {where}{close[0]}?" if close else f"known: {', '.join(hints)}"
            raise ConfigError(f"unknown configuration key {where}{key}; {remedy}")
        nested = hints[key]
        if isinstance(value, Mapping) and isinstance(nested, type):
            _refuse_unknown(value, nested, f"{where}{key}.")
