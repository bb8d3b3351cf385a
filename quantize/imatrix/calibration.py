"""The text a model is calibrated on, as token sequences: training examples, a text file, or both.

Held-out examples never enter: what a file is judged on must not have shaped it.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from quantize.config import ImatrixConfig
from quantize.digest import sha256_file, sha256_json
from quantize.examples import (
    Message,
    TextRef,
    python_source,
    read_examples,
    render,
    split_turns,
    text_file,
)
from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession

_FEWEST_TOKENS = 16
"""A remainder shorter than this is left out."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Hold token sequences and what they came from."""

    sequences: tuple[tuple[int, ...], ...]
    prompt_lengths: tuple[int, ...]
    """How many tokens of each sequence are prompt, at least one."""
    texts: tuple[TextRef, ...]

    @property
    def num_tokens(self) -> int:
        """Return how many tokens there are."""
        return sum(map(len, self.sequences))

    @property
    def sha256(self) -> str:
        """Return a digest of the tokens."""
        return sha256_json(self.sequences)


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    ref: TextRef
    pairs: list[tuple[list[int], list[int]]]
    """Prompt and response token ids."""


def calibration(
    model: Path, examples: Path | None, config: ImatrixConfig, *, num_tokens: int
) -> Calibration:
    """Tokenize up to `num_tokens` for a GGUF: half examples, half text where both are given.

    Without either, Python's own source is used; a chat template in the file renders examples.
    """
    template = read_header(model).text("tokenizer.chat_template")
    with LlamaSession(model, n_ctx=16, n_batch=16) as session:
        parts = []
        if examples is not None and template is not None:
            parts.append(_from_examples(session, examples, template))
        if config.text or not parts:
            parts.append(_from_text(session, config))
    share = num_tokens // len(parts)
    chosen = [pair for part in parts for pair in _within(part.pairs, share, config)]
    return Calibration(
        sequences=tuple((*prompt, *response) for prompt, response in chosen),
        prompt_lengths=tuple(len(prompt) for prompt, _ in chosen),
        texts=tuple(part.ref for part in parts),
    )


def _from_examples(session: LlamaSession, path: Path, template: str) -> _Part:
    """Render every conversation, in an order that depends on nothing but its content."""
    pairs = []
    for messages in sorted(read_examples(path), key=sha256_json):
        prompt, response = _turns(template, messages, session.special_names())
        pairs.append(
            (
                session.tokenize(prompt, parse_special=True, add_special=False),
                session.tokenize(response, parse_special=True, add_special=False),
            )
        )
    ref = TextRef(kind="train_examples", ref=path.name, sha256=sha256_file(path))
    return _Part(ref=ref, pairs=pairs)


def _turns(template: str, messages: Sequence[Message], names: dict[str, str]) -> tuple[str, str]:
    if len(messages) > 1:
        return split_turns(template, messages, names)
    return "", render(template, messages, add_generation_prompt=False, names=names)


def _from_text(session: LlamaSession, config: ImatrixConfig) -> _Part:
    text, ref = text_file(Path(config.text)) if config.text else python_source()
    ids = session.tokenize(text, parse_special=False, add_special=True)
    window = config.max_sequence_tokens
    windows = [ids[start : start + window] for start in range(0, len(ids), window)]
    return _Part(ref=ref, pairs=[(part[:1], part[1:]) for part in windows])


def _within(
    pairs: Sequence[tuple[list[int], list[int]]], num_tokens: int, config: ImatrixConfig
) -> list[tuple[list[int], list[int]]]:
    """Take pairs until the budget is spent, cutting long ones at their end."""
    chosen: list[tuple[list[int], list[int]]] = []
    left = num_tokens
    for prompt, response in pairs:
        room = min(left, config.max_sequence_tokens)
        if left < _FEWEST_TOKENS:
            break
        kept = (prompt[:room], response[: max(0, room - len(prompt))])
        size = len(kept[0]) + len(kept[1])
        if size >= _FEWEST_TOKENS:
            chosen.append(kept)
            left -= size
    return chosen
