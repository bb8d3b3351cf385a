"""What a run is compared on: its artifacts, conversations and scored texts. Compares nothing."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import VerifyConfig
from quantize.convert.adapter import Adapter
from quantize.convert.hf_folder import load_tokenizer
from quantize.errors import SourceError
from quantize.examples import (
    Message,
    ScoredText,
    example_texts,
    plain_texts,
    python_source,
    render,
)
from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession
from quantize.verify.cases import CASES, Case, numbered
from quantize.verify.prompts import hf_prompt

Render = Callable[[Case], str]


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Name the artifacts of one run along the hops; absent ones are not checked."""

    merged: Path | None
    reference: Path
    quants: tuple[Path, ...]
    base: Path | None = None
    tuned: Path | None = None
    """The finetune run, for its tokenizer and template."""
    adapter: Adapter | None = None
    conversations: tuple[list[Message], ...] = ()


def renderer(chain: Chain) -> Render | None:
    """Return how prompts are to look: as Hugging Face renders them where its folder is known."""
    template = read_header(chain.reference).text("tokenizer.chat_template")
    if template is None:
        return None
    if chain.merged is not None:
        tokenizer = load_tokenizer(chain.merged)
        return lambda case: hf_prompt(tokenizer, case)
    with LlamaSession(chain.reference, n_ctx=16, n_batch=16) as session:
        names = session.special_names()
    return lambda case: render(
        template, case.messages, add_generation_prompt=True, names=names, tools=case.tools
    )


def cases_of(chain: Chain) -> list[Case]:
    """Return the conversations to render: the fixed set and some of the run's own."""
    own = numbered([conversation[:-1] for conversation in chain.conversations[:4]])
    return [*CASES, *own]


def hf_texts(tokenizer: Any, cases: Sequence[Case]) -> list[str]:
    """Return the prompts of the conversations that the template takes."""
    texts = []
    for case in cases:
        with contextlib.suppress(SourceError):  # the template takes no such messages
            texts.append(hf_prompt(tokenizer, case))
    return texts


def longest(config: VerifyConfig) -> int:
    """Return the context that every comparison fits in, in tokens."""
    return max(512, 2 * config.scored_tokens)


def scored_texts(chain: Chain, config: VerifyConfig) -> list[ScoredText]:
    """Return scored texts: short responses of many examples rather than one long one."""
    template, room = read_header(chain.reference).text("tokenizer.chat_template"), longest(config)
    with LlamaSession(chain.reference, n_ctx=16, n_batch=16) as session:
        if template is not None and chain.conversations:
            return _short_examples(session, template, chain.conversations, config, room)
        text, _ = python_source()
        return plain_texts(
            session, text, scored_tokens=config.scored_tokens, max_example_tokens=room // 8
        )


def _short_examples(
    session: LlamaSession,
    template: str,
    conversations: Sequence[list[Message]],
    config: VerifyConfig,
    room: int,
) -> list[ScoredText]:
    share = max(1, config.scored_tokens // max(config.num_prompts, 1))
    texts: list[ScoredText] = []
    for conversation in conversations:
        if len(texts) == config.num_prompts:
            break
        texts += example_texts(
            session,
            template,
            [conversation],
            scored_tokens=share,
            max_example_tokens=room // 2,
            names=session.special_names(),
        )
    return texts
