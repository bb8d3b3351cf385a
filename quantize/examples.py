"""Which text a model is judged on: held-out examples of a run, or plain text.

Renders messages with a chat template the way Hugging Face does and tokenizes them with the model's
own tokenizer. Prompt and response are tokenized apart, as they are when a server generates.
"""

import inspect
import platform
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from quantize.digest import sha256_file, sha256_json
from quantize.errors import SourceError

Message = dict[str, Any]
_TEXT_FIELDS = {"text", "middle"}  # of a passage and of a gap
Names = Mapping[str, str]
"""The variables bos_token and eos_token of a chat template."""


class Tokenizer(Protocol):
    """Turn text into token ids; a loaded model does."""

    def tokenize(self, text: str, *, parse_special: bool, add_special: bool) -> list[int]:
        """Return token ids."""


class ScoredText(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one sequence; only the response tokens are scored."""

    prompt_token_ids: list[int]
    response_token_ids: list[int]


class TextRef(msgspec.Struct, frozen=True, kw_only=True):
    """Name the text, so that figures are only compared on the same one."""

    kind: str
    """`heldout_examples`, `file`, `python_reference` or `python_source`."""
    ref: str
    sha256: str


def render(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    names: Names,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the prompt text of messages.

    Raises:
        SourceError: when the template refuses the messages.
    """
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(
            conversations=[list(messages)],
            chat_template=template,
            add_generation_prompt=add_generation_prompt,
            tools=list(tools) if tools else None,
            **names,
        )
    except TemplateError as error:
        raise SourceError(f"the chat template refuses these messages: {error}") from error
    return str(rendered[0][0] if isinstance(rendered, tuple) else rendered[0])


def read_examples(path: Path) -> list[list[Message]]:
    """Return the conversations of a heldout.jsonl; texts and gaps beside them are left out.

    Raises:
        SourceError: naming file and line of a row that is no conversation.
    """
    conversations = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = msgspec.json.decode(line)
            if "messages" not in row and _TEXT_FIELDS.intersection(row):
                continue
            messages = row["messages"]
            ends_well = messages[-1]["role"] == "assistant"
        except (msgspec.DecodeError, KeyError, IndexError, TypeError) as error:
            raise SourceError(f"{path}:{number}: expected an object with messages") from error
        if not ends_well:
            raise SourceError(f"{path}:{number}: the last message is not the assistant's")
        conversations.append(messages)
    return conversations


def split_turns(template: str, messages: Sequence[Message], names: Names) -> tuple[str, str]:
    """Return prompt text and response text of a conversation; together they are the whole."""
    prompt = render(template, messages[:-1], add_generation_prompt=True, names=names)
    whole = render(template, messages, add_generation_prompt=False, names=names)
    if whole.startswith(prompt):
        return prompt, whole[len(prompt) :]
    return prompt, str(messages[-1]["content"])


def example_texts(
    tokenizer: Tokenizer,
    template: str,
    conversations: Sequence[Sequence[Message]],
    *,
    scored_tokens: int,
    max_example_tokens: int,
    names: Names,
) -> list[ScoredText]:
    """Return conversations as scored texts until the budget of response tokens is spent."""
    chosen: list[ScoredText] = []
    left = scored_tokens
    for messages in conversations:
        if left <= 0:
            break
        prompt, response = split_turns(template, messages, names)
        prompt_ids = tokenizer.tokenize(prompt, parse_special=True, add_special=False)
        response_ids = tokenizer.tokenize(response, parse_special=True, add_special=False)
        room = min(left, max_example_tokens - len(prompt_ids))
        if room > 0 and prompt_ids and response_ids:
            chosen.append(
                ScoredText(prompt_token_ids=prompt_ids, response_token_ids=response_ids[:room])
            )
            left -= len(chosen[-1].response_token_ids)
    return chosen


def plain_texts(
    tokenizer: Tokenizer, text: str, *, scored_tokens: int, max_example_tokens: int
) -> list[ScoredText]:
    """Return plain text in windows; a sixteenth of each window, at least one token, is context."""
    ids = tokenizer.tokenize(text, parse_special=False, add_special=False)
    return list(_windows(ids, scored_tokens, max_example_tokens))


def _windows(ids: list[int], scored_tokens: int, window: int) -> Iterator[ScoredText]:
    left, context = scored_tokens, max(1, window // 16)
    for start in range(0, len(ids) - context, window):
        part = ids[start : start + window]
        response = part[context : context + left]
        if left <= 0 or not response:
            return
        left -= len(response)
        yield ScoredText(prompt_token_ids=part[:context], response_token_ids=response)


def python_source() -> tuple[str, TextRef]:
    """Return source of the running Python, for models that come without examples."""
    text = inspect.getsource(textwrap)
    return text, TextRef(kind="python_source", ref="textwrap.py", sha256=sha256_json(text))


def python_reference() -> tuple[str, TextRef]:
    """Return the prose of Python's language reference, which comes with the interpreter."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some systems ship Python without it
        return python_source()
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ref = f"the language reference of Python {platform.python_version()}"
    return text, TextRef(kind="python_reference", ref=ref, sha256=sha256_json(text))


def text_file(path: Path) -> tuple[str, TextRef]:
    """Return a text file.

    Raises:
        SourceError: when it cannot be read as text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot read the text {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no UTF-8 text: byte {error.start} is none") from error
    return text, TextRef(kind="file", ref=path.name, sha256=sha256_file(path))
