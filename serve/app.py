"""Make the application: routes, error handling, access and limits around one engine.

Knows no command line and starts nothing; whoever made the engine closes it.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request
from litestar.datastructures import State

from serve.api import (
    anthropic,
    chat,
    completions,
    fim,
    models,
    native_completion,
    native_state,
    native_text,
    ollama,
    openapi,
    responses,
)
from serve.api.access import add_request_id, checks, cors, request_id
from serve.api.errors import HANDLERS
from serve.api.gaps import Gaps
from serve.api.responses_store import ResponseStore
from serve.api.sampling import defaults
from serve.api.served import Served
from serve.artifacts import measurements
from serve.chat.capabilities import probe
from serve.chat.template import ChatTemplate, from_metadata
from serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.types import ControllerRouterHandler

    from serve.config import Settings
    from serve.engine.engine import Engine
    from serve.engine.model_info import ModelInfo

ROUTES: list[ControllerRouterHandler] = [
    chat.chat_completions,
    completions.completions,
    fim.fim_completions,
    models.list_models,
    models.get_model,
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
    """Return the application; without `api_keys` everyone who reaches it may ask.

    Raises:
        ConfigError: the template file configured cannot be read.
        TemplateError: the chat template does not parse.
    """
    served = serve_model(engine, settings)
    kept = ResponseStore(settings.api.stored_responses, settings.api.stored_response_bytes)
    return Litestar(
        ROUTES,
        state=State({"served": served, "responses": kept, "log_error": log_error}),
        middleware=checks(settings, api_keys),
        cors_config=cors(settings),
        before_send=[add_request_id],
        exception_handlers=HANDLERS,
        request_max_body_size=settings.limits.body_bytes,
        openapi_config=openapi.config(has_keys=bool(api_keys)),
        logging_config=None,
    )


def serve_model(engine: Engine, settings: Settings) -> Served:
    """Gather what the routes share."""
    info = engine.model_info
    path = Path(info.path)
    template = _template(info, settings.model.template_file)
    return Served(
        engine=engine,
        template=template,
        capabilities=probe(template) if template else None,
        model_id=settings.model.alias or path.stem,
        created=int(time.time()),
        sampling=defaults(info.metadata, settings.sampling),
        settings=settings,
        measurements=measurements(path),
        gaps=Gaps(engine, settings.fim),
    )


def log_error(request: Request[Any, Any, Any], error: Exception) -> None:
    """Show on stderr what a client is not told: where it happened."""
    name = f"{request_id(request.scope)} {request.method} {request.url.path}"
    lines = "".join(traceback.format_exception(error))
    print(f"{name} failed\n{lines}", file=sys.stderr)


def _template(info: ModelInfo, template_file: str | None) -> ChatTemplate | None:
    special = {"bos_token": info.bos_token, "eos_token": info.eos_token}
    if template_file is None:
        return from_metadata(info.metadata, **special)
    try:
        return ChatTemplate(Path(template_file).expanduser().read_text("utf-8"), **special)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the chat template {template_file}: {error}") from error
