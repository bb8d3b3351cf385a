"""Make the application: routes, error handling, access and limits around one engine.

Knows no command line and starts nothing; whoever made the engine closes it.
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.middleware import DefineMiddleware

from serve.api import (
    adapters,
    anthropic,
    chat,
    completions,
    debug,
    embeddings,
    fim,
    models,
    native_completion,
    native_state,
    native_text,
    ollama,
    openapi,
    page,
    responses,
)
from serve.api.access import add_request_id, checks, cors, request_id
from serve.api.errors import HANDLERS
from serve.api.responses_store import ResponseStore
from serve.api.served import Leases
from serve.house import of_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.types import ControllerRouterHandler

    from serve.api.served import House
    from serve.config import Settings
    from serve.engine.engine import Engine

ROUTES: list[ControllerRouterHandler] = [
    page.page,
    page.probe,
    chat.chat_completions,
    chat.count_tokens,
    completions.completions,
    fim.fim_completions,
    models.list_models,
    models.get_model,
    embeddings.embeddings,
    embeddings.native_embedding,
    adapters.list_adapters,
    adapters.set_scales,
    native_state.health,
    native_state.props,
    native_state.slots,
    native_state.metrics,
    native_text.apply_template,
    native_text.tokenize,
    native_text.detokenize,
    native_completion.completion,
    native_completion.infill,
    anthropic.router,
    ollama.router,
    responses.create,
    responses.retrieve,
    responses.list_input,
    responses.forget,
    responses.cancel,
]


def create_app(engine: Engine, settings: Settings, api_keys: Sequence[str] = ()) -> Litestar:
    """Return the application of one model that is loaded already.

    Raises:
        ConfigError: the template file configured cannot be read.
        TemplateError: the chat template does not parse.
    """
    return create_app_of(of_engine(engine, settings), settings, api_keys)


def create_app_of(house: House, settings: Settings, api_keys: Sequence[str] = ()) -> Litestar:
    """Return the application; without `api_keys` everyone who reaches it may ask."""
    routes = [*ROUTES, debug.cache] if settings.api.debug_cache else ROUTES
    kept = ResponseStore(settings.api.stored_responses, settings.api.stored_response_bytes)
    return Litestar(
        routes,
        state=State(
            {
                "house": house,
                "responses": kept,
                "shown": settings.api,
                "log_error": log_error,
                "started_at": int(time.time()),
            }
        ),
        middleware=[DefineMiddleware(Leases, house=house), *checks(settings, api_keys)],
        cors_config=cors(settings),
        before_send=[add_request_id],
        exception_handlers=HANDLERS,
        request_max_body_size=settings.limits.body_bytes,
        openapi_config=openapi.config(has_keys=bool(api_keys)),
        logging_config=None,
    )


def log_error(request: Request[Any, Any, Any], error: Exception) -> None:
    """Show on stderr what a client is not told: where it happened."""
    name = f"{request_id(request.scope)} {request.method} {request.url.path}"
    lines = "".join(traceback.format_exception(error))
    print(f"{name} failed\n{lines}", file=sys.stderr)
