"""The route of /debug/cache; there only when the configuration asks for it."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.params import FromQuery

from serve.api.access import CACHE_SCOPE
from serve.api.cache_log import Lookup
from serve.api.served import in_memory


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """The last prompts that came with this key, the latest first."""

    prompts: list[Lookup]


@get("/debug/cache")
async def cache(
    request: Request[Any, Any, Any], model: FromQuery[str | None] = None
) -> CacheReport:
    """Say of each of the last prompts how much was read before, and what kept the rest from it."""
    served = in_memory(request, model)
    log = None if served is None else served.cache_log
    return CacheReport(prompts=[] if log is None else log.lookups(CACHE_SCOPE.get()))
