"""Reads `--lora NAME=FILE[:SCALE]`. Knows nothing of models."""

from __future__ import annotations

import argparse
import json
import math


def adapter(text: str) -> str:
    """Return an adapter as an inline TOML table, for argparse.

    A colon that no number follows belongs to the file. Raises: ArgumentTypeError.
    """
    name, _, file = text.partition("=")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE or NAME=FILE:SCALE")
    path, _, last = file.rpartition(":")
    scale = _number(last) if path else None
    if scale is None:
        path, scale = file, 1.0
    return f"{{name = {json.dumps(name)}, file = {json.dumps(path)}, scale = {scale!r}}}"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
