"""The adapters of one model as clients choose them, and GET and POST /lora-adapters.

Three ways lead to a request's adapters, the first that says something wins: its `lora` field, its
`model` when that is an adapter's name, and the scales that POST /lora-adapters set for everyone.
"""

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromQuery, JSONBody

from serve.api.served import Served, serving
from serve.engine.errors import UnknownAdapterError

if TYPE_CHECKING:
    from serve.engine.request import AdapterMix


class LoraChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `lora`, as llama.cpp has it: those not named have a scale of 0."""

    id: int
    scale: float = 1.0


class LoadedAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter; `scale` is what a request gets that chooses none."""

    id: int
    path: str
    scale: float
    name: str


class Done(msgspec.Struct, frozen=True):
    """It was done."""

    success: bool = True


def mix_of(served: Served, lora: list[LoraChoice] | None) -> "AdapterMix":
    """Return what a request computes with. Raises: UnknownAdapterError."""
    if lora is not None:
        chosen = tuple((each.id, each.scale) for each in lora if each.scale)
        for number, _ in chosen:
            _check(served, number)
        return chosen
    if served.named_mix is not None:
        return served.named_mix
    return tuple((number, scale) for number, scale in enumerate(served.adapter_scales) if scale)


@get("/lora-adapters")
async def list_adapters(
    request: Request[Any, Any, Any], model: FromQuery[str | None] = None
) -> list[LoadedAdapter]:
    """List the adapters of a model and the scales for everyone."""
    served = await serving(request, model, generates=False)
    return [
        LoadedAdapter(id=number, path=config.file, scale=scale, name=config.name)
        for number, (config, scale) in enumerate(
            zip(served.adapters, served.adapter_scales, strict=True)
        )
    ]


@post("/lora-adapters", status_code=200)
async def set_scales(
    request: Request[Any, Any, Any],
    data: JSONBody[list[LoraChoice]],
    model: FromQuery[str | None] = None,
) -> Done:
    """Set the scales for everyone; those not named become 0."""
    served = await serving(request, model, generates=False)
    scales = [0.0] * len(served.adapters)
    for choice in data:
        _check(served, choice.id)
        scales[choice.id] = choice.scale
    served.adapter_scales[:] = scales
    return Done()


def _check(served: Served, number: int) -> None:
    count = len(served.adapters)
    if not 0 <= number < count:
        raise UnknownAdapterError(number, count)
