"""GET /: the page for people, one static file. Knows nothing of what the page asks.

The page is open without a key, for it holds no secret: it asks for the key itself.
"""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from litestar import MediaType, Request, Response, get, head
from litestar.exceptions import NotFoundException

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@get("/", include_in_schema=False)
async def page(request: Request[Any, Any, Any]) -> Response[str]:
    """Send the page, which loads nothing else and asks nobody but this server."""
    if not request.app.state.shown.page:
        raise NotFoundException("there is no page here; start the server with --set api.page=true")
    return Response(text(), media_type=MediaType.HTML, headers=headers())


@head("/", include_in_schema=False)
async def probe() -> None:
    """Say that somebody is here, as Ollama's clients want to know first."""


@cache
def text() -> str:
    """Return the page's source."""
    return files("serve.api").joinpath("page.html").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """Return what keeps the page to its own two inline blocks and to this server."""
    hashes: dict[str, str] = {}
    for kind, block in _INLINE.findall(text()):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        hashes[kind] = f"'sha256-{digest}'"
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
