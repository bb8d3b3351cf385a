"""GET /health, /props, /slots and /metrics, as llama.cpp's server answers them."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.params import FromQuery

from serve.api.errors import SwitchedOffError
from serve.api.metrics import render, render_embedding
from serve.api.models import Provenance, provenance
from serve.api.served import Served, in_memory, serving
from serve.chat.capabilities import Capabilities
from serve.engine.request import SamplingParams
from serve.engine.tuning import Tuning


class Health(msgspec.Struct, frozen=True):
    """The server answers; it does so while prompts are being read, too."""

    status: str = "ok"


class GenerationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The context of one request and the sampling of one that sends none."""

    n_ctx: int
    params: SamplingParams


class Modalities(msgspec.Struct, frozen=True):
    """Text only."""

    vision: bool = False
    audio: bool = False


class Props(msgspec.Struct, frozen=True, kw_only=True):
    """What editors and the parity check want to know beforehand.

    `tuning` is what was measured here: threads, and what rows cost; null where nothing was.
    """

    default_generation_settings: GenerationSettings
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    chat_template_caps: Capabilities | None
    bos_token: str
    eos_token: str
    build_info: str
    system_info: str
    edgesmith: Provenance
    tuning: Tuning | None = None
    modalities: Modalities = Modalities()


class SlotState(msgspec.Struct, frozen=True, kw_only=True):
    """One seat of the engine."""

    id: int
    n_ctx: int
    is_processing: bool
    state: str
    n_prompt_tokens: int
    n_decoded: int
    n_cached_tokens: int
    priority: str


@get(["/health", "/v1/health"])
async def health() -> Health:
    """Say that the server is there; open without a key."""
    return Health()


@get("/props")
async def props(request: Request[Any, Any, Any], model: FromQuery[str | None] = None) -> Props:
    """Describe the model, its template and the defaults; it is loaded for that."""
    served = await serving(request, model, generates=False)
    info = served.engine.model_info
    return Props(
        default_generation_settings=GenerationSettings(
            n_ctx=info.context_length, params=served.sampling
        ),
        total_slots=info.n_slots,
        model_alias=served.model_id,
        model_path=info.path,
        chat_template=served.template.source if served.template else "",
        chat_template_caps=served.capabilities,
        bos_token=info.bos_token,
        eos_token=info.eos_token,
        build_info=info.runtime,
        system_info=info.system_info,
        edgesmith=provenance(served),
        tuning=info.tuning,
    )


@get("/slots")
async def slots(
    request: Request[Any, Any, Any], model: FromQuery[str | None] = None
) -> list[SlotState]:
    """Describe every seat of a loaded model; no prompt text is shown."""
    if not request.app.state.shown.slots:
        raise SwitchedOffError("api.slots")
    served = in_memory(request, model)
    if served is None:
        return []
    engine = served.engine
    return [
        SlotState(
            id=slot.seq_id,
            n_ctx=engine.model_info.context_length,
            is_processing=slot.state != "idle",
            state=slot.state,
            n_prompt_tokens=slot.num_prompt_tokens,
            n_decoded=slot.num_output_tokens,
            n_cached_tokens=slot.num_held_tokens,
            priority=slot.priority,
        )
        for slot in engine.stats().slots
    ]


@get("/metrics", media_type=MediaType.TEXT)
async def metrics(
    request: Request[Any, Any, Any], model: FromQuery[str | None] = None
) -> Response[str]:
    """Render a loaded model's counters for Prometheus; without one there are none."""
    if not request.app.state.shown.metrics:
        raise SwitchedOffError("api.metrics")
    served = in_memory(request, model, writes=False)
    began = str(request.app.state.started_at)
    return Response(_figures(served), headers={"Process-Start-Time-Unix": began})


def _figures(served: Served | None) -> str:
    if served is None:
        return ""
    if served.is_embedding and served.embedder is not None:
        return render_embedding(served.embedder.num_read_tokens, served.embedder.num_calls)
    return render(served.engine.stats(), served.engine.model_info.tuning)
