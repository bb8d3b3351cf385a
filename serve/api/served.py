"""What the routes share: the engine, its chat template, its name and the limits.

One value per model. A route gets the one its request names with `serving`, which loads it if need
be and keeps it in memory until the response is out. Knows no dialect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from serve.api.access import CACHE_SCOPE
from serve.api.errors import InvalidRequestError, ModelNotFoundError
from serve.chat.errors import NoTemplateError
from serve.chat.fim import FimTokens, fim_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litestar import Request
    from litestar.types import ASGIApp, Receive, Scope, Send

    from serve.api.cache_log import CacheLog
    from serve.api.gaps import Gaps
    from serve.catalogue import Catalogue, Found, ModelSpec
    from serve.chat.capabilities import Capabilities
    from serve.chat.template import ChatTemplate
    from serve.chat.transcripts import Transcripts
    from serve.config import Settings
    from serve.engine.config import AdapterConfig
    from serve.engine.embedding import EmbeddingEngine
    from serve.engine.engine import Engine
    from serve.engine.request import AdapterMix, SamplingParams
    from serve.residents import Residents


"""Longer texts are rendered and tokenized in a thread: some 2 ms of work otherwise stall every
stream on the event loop."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One model, ready to answer. `created` is in seconds since 1970.

    `embedder` is the engine again where it makes vectors, which `is_embedding` says beforehand.
    `transcripts` is None where ids are made from text anew each time, `cache_log` where nobody
    looks at it. `adapter_scales`, one for each of `adapters`, hold for requests that choose none
    and are the one thing here that changes.
    `named_mix` is set when the request named an adapter instead of the model; `model_id` is then
    the adapter's name.
    """

    engine: Engine
    template: ChatTemplate | None
    capabilities: Capabilities | None
    model_id: str
    created: int
    sampling: SamplingParams
    settings: Settings
    measurements: list[dict[str, Any]]
    gaps: Gaps
    transcripts: Transcripts | None = None
    cache_log: CacheLog | None = None
    embedder: EmbeddingEngine | None = None
    is_embedding: bool = False
    adapters: tuple[AdapterConfig, ...] = ()
    adapter_scales: list[float] = []
    named_mix: AdapterMix | None = None

    def close(self) -> None:
        """Close the engine, once nothing reads in the background."""
        self.gaps.close()
        self.engine.close()

    @property
    def fingerprint(self) -> str:
        """Return what, besides model and seed, decides an answer: the runtime."""
        return self.engine.model_info.runtime

    def chat_template(self) -> ChatTemplate:
        """Return the template.

        Raises:
            NoTemplateError: the model has none and none is configured.
        """
        if self.template is None:
            raise NoTemplateError(
                f"{self.model_id} has no chat template; use /v1/completions, or serve it with "
                "--set model.template_file=FILE"
            )
        return self.template

    def tokenize_rendered(self, text: str, *, anew: bool = False) -> list[int]:
        """Tokenize text that may spell out special tokens, with exactly one BOS if one is due.

        A conversation that was answered before begins with the ids it had then, unless it is to
        be read `anew`.
        """
        bos = self.engine.model_info.bos_token
        has_bos = bool(bos) and text.startswith(bos)
        if self.transcripts is None or anew:
            return self.engine.tokenize(text, add_special=not has_bos, parse_special=True)
        return self.transcripts.tokenize(text, CACHE_SCOPE.get(), add_special=not has_bos)

    def tokenize_plain(self, text: str) -> list[int]:
        """Tokenize text of which nothing is special: source code around a cursor."""
        return self.engine.tokenize(text, add_special=False, parse_special=False)

    def mark_token(self, text: str) -> int | None:
        """Return the token that a mark of the chat template is, None when it is several."""
        token_ids = self.engine.tokenize(text, add_special=False, parse_special=True)
        return token_ids[0] if len(token_ids) == 1 else None

    def fim_tokens(self) -> FimTokens:
        """Return the ids that lay out a fill-in-the-middle prompt."""
        return fim_tokens(self.engine.model_info)

    def is_fim(self, token_ids: Sequence[int]) -> bool:
        """Return whether a prompt asks for the middle: clients may spell the layout themselves."""
        return self.engine.model_info.fim_mid_token_id in token_ids[-4:] or (
            self.engine.model_info.fim_suf_token_id in token_ids
        )


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The models of this application: what can be asked for, and what is in memory.

    `describe` says of a model that is not loaded what its file says.
    """

    catalogue: Catalogue
    residents: Residents[Served]
    describe: Callable[[ModelSpec], Served]

    def shown(self, found: Found) -> Served:
        """Describe what a name means, as it is loaded or as it would be.

        Raises: EngineError when the file cannot be read.
        """
        served = self.residents.peek(found.spec.name) or self.describe(found.spec)
        return msgspec.structs.replace(served, model_id=found.name, named_mix=found.mix)


class Leases:
    """Middleware that gives back the models of a request once its response is out."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, then release."""
        try:
            await self._app(scope, receive, send)
        finally:
            for lease in scope.get("state", {}).pop(_LEASES, ()):
                self._house.residents.release(lease.name, lease.keep_seconds)


class _Lease(msgspec.Struct, frozen=True):
    name: str
    keep_seconds: float | None


_LEASES = "leases"


def house_of(request: Request[Any, Any, Any]) -> House:
    """Return the models of this application."""
    return cast("House", request.app.state.house)


async def serving(
    request: Request[Any, Any, Any],
    name: str | None,
    *,
    keep_seconds: float | None = None,
    generates: bool = True,
) -> Served:
    """Return the model a request names, loaded, until its response is out.

    `keep_seconds` is how long it may stay in memory afterwards, when the client says so.
    `generates` is whether it is asked to write text.

    Raises:
        ModelNotFoundError: no model or adapter has the name.
        InvalidRequestError: it is to write and can only embed.
        EngineError: it cannot be loaded now, or at all.
    """
    house = house_of(request)
    found = find(house, name)
    served = await house.residents.lease(found.spec.name)
    request.scope["state"].setdefault(_LEASES, []).append(_Lease(found.spec.name, keep_seconds))
    if generates and served.is_embedding:
        raise InvalidRequestError(
            f"{found.name} makes embeddings and writes no text; send it to /v1/embeddings",
            param="model",
        )
    if found.mix is None:
        return served
    return msgspec.structs.replace(served, model_id=found.name, named_mix=found.mix)


def find(house: House, name: str | None, *, exact: bool = False) -> Found:
    """Return what a name means; see `Catalogue.find`.

    Raises:
        ModelNotFoundError: nothing, with the names there are.
    """
    found = house.catalogue.find(name, exact=exact)
    if found is None:
        names = ", ".join(repr(each) for each in house.catalogue.names)
        raise ModelNotFoundError(
            f"the model {name!r} is not served here; {names} is", param="model"
        )
    return found


def in_memory(
    request: Request[Any, Any, Any], name: str | None, *, writes: bool = True
) -> Served | None:
    """Return the model named, else the default, else the one used last; asking loads none.

    With `writes` only a model that writes text, none for embeddings.
    """
    house = house_of(request)
    served = house.residents.peek(find(house, name).spec.name)
    if served is None and not name:
        served = next((each.value for each in house.residents.loaded()), None)
    return None if served is None or (writes and served.is_embedding) else served
