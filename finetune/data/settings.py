"""The table `data` of the configuration: sources, limits and what the gate keeps out.

Knows types, defaults and cross-field rules. Does not know where data comes from.
"""

from typing import Literal

import msgspec

from finetune.recipes.settings import FimConfig, RaftConfig


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which examples and texts to learn from, and how many of them.

    `texts` are folders or files of plain text and raw sources, learnt whole beside the examples of
    `source`, or alone with `source = "texts"`; `suffixes` narrows them to files that end so. With
    `source = "raft"`, `path` is a folder of documents or sources to make questions from, or a table
    of rows with question, answer and document.

    `near_duplicates` is the Jaccard similarity of word 5-grams from which two examples count as one
    (0: only exact ones); `contamination` the share of a benchmark problem's word 8-grams, read from
    the files of `decontaminate`, from which an example is dropped.
    """

    source: Literal["stdlib", "file", "hub", "texts", "raft"] = "stdlib"
    path: str | None = None
    ref: str | None = None
    revision: str | None = None
    split: str = "train"
    format: Literal["auto", "alpaca", "messages", "prompt_completion", "sharegpt", "preference"] = (
        "auto"
    )
    texts: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    system_prompt: str | None = None
    licence: str | None = None
    max_train_tokens: int = 20_000
    heldout_fraction: float = 0.05
    max_heldout_examples: int = 16
    too_long: Literal["drop", "truncate"] = "drop"
    near_duplicates: float = 0.85
    decontaminate: tuple[str, ...] = ()
    contamination: float = 0.3
    secrets: Literal["drop", "flag"] = "drop"
    fim: FimConfig = FimConfig()
    raft: RaftConfig = RaftConfig()

    def __post_init__(self) -> None:
        if self.source in {"file", "raft"} and not self.path:
            raise ValueError(f'data.source is "{self.source}" but data.path is not set')
        if self.source == "texts" and not self.texts:
            raise ValueError('data.source is "texts" but data.texts names no folder or file')
        if any(not suffix.startswith(".") for suffix in self.suffixes):
            raise ValueError(f"data.suffixes is {list(self.suffixes)}; each begins with a dot")
        if self.source == "hub" and not self.ref:
            raise ValueError('data.source is "hub" but data.ref (owner/name) is not set')
        if not 0 < self.heldout_fraction < 1:
            raise ValueError(
                f"data.heldout_fraction is {self.heldout_fraction}; it must lie between 0 and 1"
            )
        for name in ("near_duplicates", "contamination"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if self.max_heldout_examples < 1:
            raise ValueError("data.max_heldout_examples must be at least 1")
        if self.max_train_tokens < 0:
            raise ValueError("data.max_train_tokens must be 0 (all) or a positive number")
