"""Parity of text: template, prompts, token ids, stop tokens and metadata. Decodes nothing."""

from collections.abc import Sequence
from typing import Any

from quantize.errors import SourceError
from quantize.examples import Message, render
from quantize.gguf_header import GgufHeader
from quantize.llama_session import LlamaSession
from quantize.verify_result import Check

PROMPTS: tuple[list[Message], ...] = (
    [{"role": "user", "content": "Write a function that returns the larger of two numbers."}],
    [
        {"role": "system", "content": "Answer with code only."},
        {"role": "user", "content": "def add(a, b):\n    '''Add.'''\n"},
    ],
    [
        {"role": "user", "content": "First question?"},
        {"role": "assistant", "content": "First answer."},
        {"role": "user", "content": "And the second?"},
    ],
    [{"role": "user", "content": "Größe → 大きさ, café, 🙂, \u00a0tab\there,   three blanks"}],
    [{"role": "user", "content": "x = 1\n\n\n\tif x:\r\n    print('12345 67')  \n"}],
    [{"role": "user", "content": ""}],
)
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
        detail=_first_difference(str(wanted), str(found)),
    )


def compare_special_ids(hop: str, tokenizer: Any, session: LlamaSession) -> Check:
    """Compare BOS and EOS, and that the trained stop token ends a generation."""
    name, ids = "special tokens", session.special_ids()
    pairs = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    for key, wanted in pairs.items():
        if wanted is not None and ids[key] != wanted:
            detail = f"{key} is {wanted} in the tokenizer and {ids[key]} in the GGUF"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    if tokenizer.eos_token_id is not None and not session.is_end(tokenizer.eos_token_id):
        detail = f"eos {tokenizer.eos_token_id} does not end a generation in the GGUF"
        return Check(hop=hop, name=name, passed=False, detail=detail)
    return Check(hop=hop, name=name, passed=True, detail=f"bos {ids['bos']}, eos {ids['eos']}")


def compare_prompts(
    hop: str,
    tokenizer: Any,
    session: LlamaSession,
    header: GgufHeader,
    prompts: Sequence[list[Message]],
) -> Check:
    """Compare rendered text and token ids over a set of prompts."""
    name, template = "prompts and token ids", header.text("tokenizer.chat_template")
    compared = 0
    for number, messages in enumerate(prompts, start=1):
        try:
            wanted = _rendered(tokenizer, messages)
        except SourceError:
            continue  # the template takes no such roles; then no server renders it either
        text = wanted
        if template is not None:
            names = session.special_names()
            text = render(template, messages, add_generation_prompt=True, names=names)
        if text != wanted:
            detail = f"prompt {number}: {_first_difference(wanted, text)}"
            return Check(hop=hop, name=name, passed=False, detail=detail)
        difference = _token_difference(tokenizer, session, text)
        if difference is not None:
            detail = f"prompt {number}: {difference}"
            return Check(hop=hop, name=name, passed=False, detail=detail)
        compared += 1
    return Check(hop=hop, name=name, passed=compared > 0, detail=f"{compared} prompts equal")


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


def _rendered(tokenizer: Any, messages: list[Message]) -> str:
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return str(messages[-1]["content"])
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        raise SourceError(f"the chat template refuses these messages: {error}") from error
    return text


def _token_difference(tokenizer: Any, session: LlamaSession, text: str) -> str | None:
    wanted = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    found = session.tokenize(text, parse_special=True, add_special=False)
    for place, (left, right) in enumerate(zip(wanted, found, strict=False)):
        if left != right:
            return f"token {place} is {left} in the tokenizer and {right} in the GGUF"
    if len(wanted) != len(found):
        return f"{len(wanted)} tokens in the tokenizer and {len(found)} in the GGUF"
    return None


def _first_difference(wanted: str, found: str) -> str:
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
