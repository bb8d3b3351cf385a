"""Which part of a text is cut out as the middle: the rest of a line, a function's body, anything.

    line      from a line's first word, or inside it, to the end of that line or of a later one
    function  a function's body, or its last statements, as `ast` sees them (Python)
    random    between two places drawn evenly, as in pre-training (Bavarian et al. 2022, section 3)

Half of the gaps before a line's first word take its indent along: the cursor stands at the start of
an empty line as often as where an editor has indented it. Works on characters, since people stop
typing inside of tokens. Knows no tokenizer.
"""

import ast
import random
import warnings

from finetune.recipes.settings import FimConfig

Span = tuple[int, int]
"""Start and end of the middle, in characters."""
MAX_LINES = 4
INDENT_RATE = 0.5


def choose_span(
    text: str, bodies: list[list[Span]], config: FimConfig, chance: random.Random
) -> Span | None:
    """Return a span that is not blank, or None for a text in which none is found.

    `bodies` are the statements of its functions.
    """
    kinds = {
        "line": lambda: line_span(text, chance),
        "function": lambda: function_span(bodies, chance),
        "random": lambda: random_span(text, chance),
    }
    weights = [config.line, config.function, config.random]
    first = chance.choices(list(kinds), weights)[0]
    others = [name for name in ("line", "random") if name != first and getattr(config, name) > 0]
    for name in (first, *others):
        span = kinds[name]()
        if span is not None and text[span[0] : span[1]].strip():
            return _from_line_start(text, span) if chance.random() < INDENT_RATE else span
    return None


def _from_line_start(text: str, span: Span) -> Span:
    """Take the indent along when nothing else stands before the span in its line."""
    line = text.rfind("\n", 0, span[0]) + 1
    return (span[0] if text[line : span[0]].strip() else line), span[1]


def line_span(text: str, chance: random.Random) -> Span | None:
    """Cut from a line's first word, or from inside it, to the end of it or of a few lines more."""
    starts = [0, *(place + 1 for place, sign in enumerate(text) if sign == "\n")]
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    written = [
        number
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        if text[start:end].strip()
    ]
    if not written:
        return None
    number = chance.choice(written)
    line = text[starts[number] : ends[number]]
    indent = len(line) - len(line.lstrip())
    inside = chance.randint(0, (len(line.strip()) - 1) // 2)
    start = starts[number] + indent + chance.choice((0, inside))
    last = min(number + chance.choice((0, 0, 0, *range(MAX_LINES))), len(ends) - 1)
    return start, ends[last]


def function_span(bodies: list[list[Span]], chance: random.Random) -> Span | None:
    """Cut a function's body, or from one of its statements on; a docstring stays."""
    if not bodies:
        return None
    statements = chance.choice(bodies)
    return chance.choice(statements)[0], statements[-1][1]


def function_bodies(text: str) -> list[list[Span]]:
    """Return the statements of each function body, without docstring, in order of the text.

    A text that is no Python, or the middle of some, has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    offsets = _line_offsets(text)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    bodies = []
    for node in sorted(functions, key=lambda node: (node.lineno, node.col_offset)):
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if body:
            bodies.append([_place(statement, offsets) for statement in body])
    return bodies


def within(bodies: list[list[Span]], start: int, end: int) -> list[list[Span]]:
    """Return the statements that lie whole in a part of a text, counted from its start."""
    cut = (
        [(first - start, last - start) for first, last in body if start <= first and last <= end]
        for body in bodies
    )
    return [body for body in cut if body]


def _line_offsets(text: str) -> list[tuple[int, str]]:
    """Return where each line starts and what it says; `ast` counts columns in bytes."""
    offsets, start = [], 0
    for line in text.split("\n"):
        offsets.append((start, line))
        start += len(line) + 1
    return offsets


def _place(node: ast.stmt, offsets: list[tuple[int, str]]) -> Span:
    return (
        _offset(offsets, node.lineno, node.col_offset),
        _offset(offsets, node.end_lineno or node.lineno, node.end_col_offset or 0),
    )


def _offset(offsets: list[tuple[int, str]], line: int, column: int) -> int:
    start, text = offsets[line - 1]
    return start + len(text.encode()[:column].decode(errors="ignore"))


def random_span(text: str, chance: random.Random) -> Span | None:
    """Cut between two places drawn evenly."""
    if len(text) < 2:
        return None
    first, second = sorted(chance.sample(range(len(text) + 1), 2))
    return first, second
