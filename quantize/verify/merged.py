"""Parity of the merged folder with what was trained: configuration, template, tokens, prompts.

The weights are proven elsewhere; this is everything around them, which the hops after it take for
granted. Decodes nothing.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantize.convert.hf_folder import TEMPLATE, load_tokenizer
from quantize.errors import SourceError
from quantize.verify.cases import Case
from quantize.verify.prompts import compare_cases, hf_prompt, ids_difference, text_difference
from quantize.verify.result import Check
from quantize.verify.tokens import num_leading

HOP = "base+adapter -> merged"
_RESTATED = ("dtype", "torch_dtype", "_name_or_path", "eos_token_id")
"""What assembling the folder changes on purpose; the stop tokens have a check of their own."""
_SPECIAL = ("bos_token_id", "eos_token_id")


def check_folder(base: Path, tuned: Path, merged: Path, cases: Sequence[Case]) -> list[Check]:
    """Compare a merged folder with its base's configuration and the run's tokenizer."""
    mine, theirs = load_tokenizer(tuned / "tokenizer"), load_tokenizer(merged)
    file = tuned / TEMPLATE
    template = file.read_text(encoding="utf-8") if file.is_file() else mine.chat_template
    mine.chat_template = template
    return [
        _check("configuration", _configuration(base, merged), "equal"),
        _check("chat template", text_difference(str(template), str(theirs.chat_template)), "equal"),
        _check("special tokens", _special(mine, theirs), f"eos {theirs.eos_token_id}"),
        compare_cases(HOP, cases, functools.partial(_prompt_difference, mine, theirs)),
    ]


def _check(name: str, difference: str | None, sound: str) -> Check:
    return Check(hop=HOP, name=name, passed=difference is None, detail=difference or sound)


def _configuration(base: Path, merged: Path) -> str | None:
    """Return the first setting that is not the base's, a rotary base for instance."""
    mine, theirs = (_settings(folder / "config.json") for folder in (base, merged))
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            return f"{key}: {mine.get(key)!r} in the base became {theirs.get(key)!r}"
    return None


def _settings(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in _RESTATED}


def _special(mine: Any, theirs: Any) -> str | None:
    for name in _SPECIAL:
        wanted, found = getattr(mine, name), getattr(theirs, name)
        if wanted != found:
            return f"{name} is {wanted} as trained and {found} in the merged folder"
    return None


def _prompt_difference(mine: Any, theirs: Any, case: Case) -> str | None:
    """Return where a conversation reads differently, or that it begins with two BOS tokens."""
    wanted = hf_prompt(mine, case)
    try:
        found = hf_prompt(theirs, case)
    except SourceError as error:
        return f"taken as trained and refused by the merged folder: {error}"
    difference = text_difference(wanted, found) or ids_difference(
        list(mine(wanted)["input_ids"]), list(theirs(wanted)["input_ids"])
    )
    if difference is not None:
        return difference
    bare = list(theirs(wanted, add_special_tokens=False)["input_ids"])
    if theirs.bos_token_id is not None and num_leading(bare, theirs.bos_token_id) > 1:
        return "the prompt begins with more than one BOS token"
    return None
