"""Answer with the fields a client asked for, flat, under the paths it named.

`["content", "timings/prompt_n"]` gives `{"content": ..., "timings/prompt_n": ...}`; a path that
leads nowhere is left out, so `[""]` gives an empty object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


def pick(body: msgspec.Struct, paths: Sequence[str] | None) -> msgspec.Struct | dict[str, Any]:
    """Return the body itself when no paths were sent."""
    if not paths:
        return body
    tree = msgspec.to_builtins(body)
    found = {path: _at(tree, path.split("/")) for path in paths}
    return {path: value for path, value in found.items() if value is not msgspec.UNSET}


def _at(tree: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if not isinstance(tree, dict) or step not in tree:
            return msgspec.UNSET
        tree = tree[step]
    return tree
