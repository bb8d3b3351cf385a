"""Parity of text: template, prompts, token ids and metadata. Decodes nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from quantize.errors import SourceError
from quantize.examples import render
from quantize.llama.gguf_header import GgufHeader
from quantize.llama.session import LlamaSession
from quantize.verify.cases import Case
from quantize.verify.result import Check

_MAY_DIFFER = ("general.file_type", "general.quantization_version")


def compare_template(hop: str, tokenizer: Any, header: GgufHeader) -> Check:
    """Compare the template strings."""
    wanted, found = tokenizer.chat_template, header.text("tokenizer.chat_template")
    if wanted == found:
        state = "equal" if found else "neither has one"
        return Check(hop=hop, name="chat template", passed=True, detail=state)
    return Check(
        hop=hop,
        name="chat template",
        passed=False,
        detail=text_difference(str(wanted), str(found)) or "",
    )


def compare_prompts(
    hop: str, tokenizer: Any, session: LlamaSession, header: GgufHeader, cases: Sequence[Case]
) -> Check:
    """Compare rendered text and token ids over a set of conversations."""
    template, names = header.text("tokenizer.chat_template"), session.special_names()

    def difference(case: Case) -> str | None:
        wanted = text = hf_prompt(tokenizer, case)
        if template is not None:
            try:
                text = render(
                    template,
                    case.messages,
                    add_generation_prompt=True,
                    names=names,
                    tools=case.tools,
                )
            except SourceError as error:
                return f"taken before the hop and refused after it: {error}"
        return text_difference(wanted, text) or _token_difference(tokenizer, session, text)

    return compare_cases(hop, cases, difference)


def compare_cases(
    hop: str, cases: Sequence[Case], difference: Callable[[Case], str | None]
) -> Check:
    """Compare each conversation that the template takes; at least one has to be."""
    name, refused = "prompts and token ids", 0
    for case in cases:
        try:
            found = difference(case)
        except SourceError:
            refused += 1  # no server renders it either
            continue
        if found is not None:
            return Check(hop=hop, name=name, passed=False, detail=f"{case.name}: {found}")
    compared = len(cases) - refused
    detail = f"{compared} prompts equal"
    if refused:
        detail += f"; the template takes {refused} others not"
    return Check(hop=hop, name=name, passed=compared > 0, detail=detail)


def compare_metadata(reference: GgufHeader, other: GgufHeader) -> Check:
    """Compare everything but types: keys, tensor names and shapes."""
    hop, name = f"{reference.path.name} -> {other.path.name}", "metadata and shapes"
    mine, theirs = _lasting(reference), _lasting(other)
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            detail = f"{key}: {_short(mine.get(key))} became {_short(theirs.get(key))}"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    shapes = [{tensor.name: tensor.shape for tensor in h.tensors} for h in (reference, other)]
    if shapes[0] != shapes[1]:
        changed = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
        return Check(hop=hop, name=name, passed=False, detail=f"tensor {changed[0][0]} differs")
    return Check(hop=hop, name=name, passed=True, detail=f"{len(mine)} keys equal")


def _lasting(header: GgufHeader) -> dict[str, Any]:
    return {
        key: value
        for key, value in header.metadata.items()
        if key not in _MAY_DIFFER and not key.startswith("edgesmith.")
    }


def hf_prompt(tokenizer: Any, case: Case) -> str:
    """Return a conversation as Hugging Face renders it; without a template, its last words.

    Raises:
        SourceError: when the template refuses the messages.
    """
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return str(case.messages[-1]["content"])
    try:
        text: str = tokenizer.apply_chat_template(
            case.messages, tools=case.tools, tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, TypeError, KeyError) as error:
        raise SourceError(f"the chat template refuses these messages: {error}") from error
    return text


def _token_difference(tokenizer: Any, session: LlamaSession, text: str) -> str | None:
    wanted = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids_difference(wanted, session.tokenize(text, parse_special=True, add_special=False))


def ids_difference(wanted: Sequence[int], found: Sequence[int]) -> str | None:
    """Return the first place where token ids differ, or None."""
    for place, (left, right) in enumerate(zip(wanted, found, strict=False)):
        if left != right:
            return f"token {place} is {left} in the tokenizer and {right} after the hop"
    if len(wanted) != len(found):
        return f"{len(wanted)} tokens in the tokenizer and {len(found)} after the hop"
    return None


def text_difference(wanted: str, found: str) -> str | None:
    """Return the first place where texts differ, or None."""
    if wanted == found:
        return None
    place = next(
        (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b),
        min(len(wanted), len(found)),
    )
    return (
        f"first difference at character {place}: {wanted[place : place + 24]!r} against "
        f"{found[place : place + 24]!r}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
