"""Python code inside of conversations: fenced blocks, or answers that are code as a whole.

Knows texts only.
"""

import ast
import re
import warnings
from collections.abc import Iterator

from finetune.data.examples import Example

_FENCED = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)```", re.DOTALL)


def code_in(example: Example) -> Iterator[str]:
    """Yield the Python of the answers, block by block."""
    for turn in example.messages:
        if turn.role == "assistant":
            blocks = _FENCED.findall(turn.content) or [turn.content]
            yield from (block for block in blocks if is_python(block))


def is_python(text: str) -> bool:
    """Say whether a text parses as Python and does more than name something."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) for node in tree.body)
