"""Parity of tokens with a meaning: BOS, EOS, EOT, the stop set, added tokens. Decodes nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantize.llama.session import LlamaSession
from quantize.verify.result import Check

_NAMED = 6
"""Tokens that a detail line spells out."""


def compare_special_ids(hop: str, tokenizer: Any, session: LlamaSession) -> Check:
    """Compare BOS and EOS."""
    name, ids = "special tokens", session.special_ids()
    pairs = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    for key, wanted in pairs.items():
        if wanted is not None and ids[key] != wanted:
            detail = f"{key} is {wanted} in the tokenizer and {ids[key]} in the GGUF"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    return Check(hop=hop, name=name, passed=True, detail=f"bos {ids['bos']}, eos {ids['eos']}")


def compare_stop_set(hop: str, tokenizer: Any, folder: Path, session: LlamaSession) -> Check:
    """Check that both sides end a generation at the same tokens.

    llama.cpp adds tokens that it knows to end something (`<|endoftext|>`, ...). Such an extra stop
    is accepted when it is a control token, which no text contains; an ordinary word is not.
    """
    name, wanted, found = "stop set", hf_stop_ids(tokenizer, folder), session.stop_ids()
    for token_id in wanted:
        if token_id not in found:
            detail = f"{token_id} ({session.piece(token_id)!r}) ends no generation in the GGUF"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    extra = [token_id for token_id in found if token_id not in wanted]
    words = [token_id for token_id in extra if not session.is_control(token_id)]
    if words:
        detail = f"the GGUF also stops at {words[0]} ({session.piece(words[0])!r}), ordinary text"
        return Check(hop=hop, name=name, passed=False, detail=detail)
    eot = session.special_ids()["eot"]
    if eot >= 0 and eot not in found:
        detail = f"eot {eot} ends no generation in the GGUF"
        return Check(hop=hop, name=name, passed=False, detail=detail)
    detail = f"stops at {_spelled(session, wanted)}"
    if extra:
        detail += f"; llama.cpp also at {_spelled(session, extra)}"
    return Check(hop=hop, name=name, passed=True, detail=detail)


def hf_stop_ids(tokenizer: Any, folder: Path) -> list[int]:
    """Return the tokens that end a generation in a Hugging Face folder."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = settings.get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    return sorted({int(each) for each in [tokenizer.eos_token_id, *ids] if each is not None})


def compare_bos(hop: str, tokenizer: Any, session: LlamaSession, texts: Sequence[str]) -> Check:
    """Check that plain text and every rendered prompt begin with exactly one BOS, or with none."""
    name, bos = "BOS", tokenizer.bos_token_id
    if bos is None:
        return Check(hop=hop, name=name, passed=True, detail="the tokenizer has none")
    plain = list(tokenizer("a")["input_ids"])[:1] == [bos]
    if plain != session.adds_bos():
        sides = ("the tokenizer", "the GGUF") if plain else ("the GGUF", "the tokenizer")
        detail = f"{sides[0]} puts a BOS in front of plain text and {sides[1]} does not"
        return Check(hop=hop, name=name, passed=False, detail=detail)
    for number, text in enumerate(texts, start=1):
        count = num_leading(prompt_ids(session, text), bos)
        wanted = int(plain or text.startswith(session.piece(bos)))
        if count != wanted:
            detail = f"prompt {number} begins with {count} BOS tokens, not {wanted}"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    return Check(hop=hop, name=name, passed=True, detail=f"never doubled in {len(texts)} prompts")


def compare_added_tokens(hop: str, tokenizer: Any, session: LlamaSession) -> Check:
    """Check that each added token's text is one token, the same one, and comes back as text."""
    name = "added tokens"
    added: dict[str, int] = tokenizer.get_added_vocab()
    for text, wanted in added.items():
        found = session.tokenize(text, parse_special=True, add_special=False)
        if found != [wanted]:
            detail = f"{text!r} is token {wanted} in the tokenizer and {found} in the GGUF"
            return Check(hop=hop, name=name, passed=False, detail=detail)
        if session.piece(wanted) != text:
            detail = f"token {wanted} is {text!r} but comes back as {session.piece(wanted)!r}"
            return Check(hop=hop, name=name, passed=False, detail=detail)
    return Check(hop=hop, name=name, passed=True, detail=f"{len(added)} come back as they were")


def prompt_ids(session: LlamaSession, text: str) -> list[int]:
    """Return the ids of a rendered prompt, with a BOS in front where one is due and missing."""
    bos = session.special_names().get("bos_token")
    has_bos = bool(bos) and text.startswith(bos or "")
    return session.tokenize(text, parse_special=True, add_special=not has_bos)


def num_leading(token_ids: Sequence[int], token_id: int) -> int:
    """Return how often a token stands at the front."""
    count = 0
    while count < len(token_ids) and token_ids[count] == token_id:
        count += 1
    return count


def _spelled(session: LlamaSession, token_ids: Sequence[int]) -> str:
    shown = ", ".join(f"{session.piece(each)} ({each})" for each in token_ids[:_NAMED])
    return shown + (f" and {len(token_ids) - _NAMED} more" if len(token_ids) > _NAMED else "")
