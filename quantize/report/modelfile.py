"""An Ollama Modelfile from a GGUF's own template and stop set, where an exact one can be written.

Ollama renders with Go templates. One is written only for a template whose shape is proven
(`turn_shape`), in the subset of the language that puts literal text around each message. Ollama
joins neighbouring messages of one role before it renders, so the two agree on conversations whose
roles alternate.
"""

from collections.abc import Sequence

from quantize.errors import TemplateShapeError
from quantize.report.turn_shape import TurnShape

FILE = "Modelfile"


def modelfile(file: str, shape: TurnShape, stops: Sequence[str], *, bos: str) -> str:
    """Return the text of a Modelfile; `bos` is what Ollama puts in front by itself, or empty.

    Raises:
        TemplateShapeError: when a piece cannot stand in a Go template.
    """
    lines = [f"FROM ./{file}", f'TEMPLATE """{go_template(shape, bos=bos)}"""']
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    return "\n".join(lines) + "\n"


def go_template(shape: TurnShape, *, bos: str) -> str:
    """Return the Go template of a shape, without the BOS that Ollama adds itself."""
    first = shape.before["system"].removeprefix(bos) if bos else shape.before["system"]
    default = shape.default.removeprefix(bos) if bos else shape.default
    pieces = [first, default, *shape.before.values(), *shape.after.values()]
    for piece in pieces:
        if "{{" in piece or '"""' in piece or "}}" in piece:
            raise TemplateShapeError(f"{piece!r} cannot stand in a Modelfile's template")
    turns = [
        f'{{{{ if eq .Role "{role}" }}}}'
        f"{first if role == 'system' else shape.before[role]}{{{{ .Content }}}}"
        f"{shape.after[role]}{{{{ end }}}}"
        for role in ("system", "user", "assistant")
    ]
    unless = '{{ if ne (index .Messages 0).Role "system" }}'
    opening = f"{unless}{default}{{{{ end }}}}" if default else ""
    messages = f"{{{{ range .Messages }}}}{''.join(turns)}{{{{ end }}}}"
    return opening + messages + shape.before["assistant"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
