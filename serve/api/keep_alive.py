"""Ollama's `keep_alive`: how long a model stays in memory after a request.

Knows no model. Source: Go's duration syntax, as Ollama reads it.
"""

import math
import re

from serve.api.errors import InvalidRequestError
from serve.residents import FOREVER

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|ns|m|s)")


def keep_seconds(asked: str | float | None) -> float | None:
    """Return seconds, `FOREVER` for anything below 0; None when nothing was asked.

    Raises:
        InvalidRequestError: text that is no duration.
    """
    if asked is None or asked == "":
        return None
    seconds = _read(asked) if isinstance(asked, str) else float(asked)
    if math.isnan(seconds):
        raise InvalidRequestError(
            f"keep_alive {asked!r} is no duration; send seconds or text such as '5m'",
            param="keep_alive",
        )
    return FOREVER if seconds < 0 else seconds


def _read(text: str) -> float:
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    try:
        return sign * float(body)
    except ValueError:
        pass
    parts = list(_PART.finditer(body))
    if not parts or "".join(part[0] for part in parts) != body:
        return math.nan
    return sign * sum(float(part[1]) * _UNITS[part[2]] for part in parts)
