"""The tables `data.fim` and `data.raft` of the configuration.

Knows types, defaults and cross-field rules, nothing of texts.
"""

from typing import Literal

import msgspec


class FimConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How code becomes gaps to fill in the middle; `rate` 0 makes none.

    Of plain texts, `rate` is the share rewritten as gaps; of conversations, the share whose Python
    code becomes one more example. `spm_rate` is the share of gaps with the suffix in front. `line`,
    `function` and `random` weigh the kinds of span that are cut out; a text without functions gets
    one of the others. `loss` is on the middle and its end, or on the whole text as in pre-training.
    """

    rate: float = 0.0
    spm_rate: float = 0.5
    line: float = 0.4
    function: float = 0.3
    random: float = 0.3
    loss: Literal["middle", "whole"] = "middle"

    def __post_init__(self) -> None:
        for name in ("rate", "spm_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.fim.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        shares = (self.line, self.function, self.random)
        if min(shares) < 0 or self.line + self.random <= 0:
            raise ValueError(
                f"data.fim.line, function and random are {shares}: none may be negative, and line "
                "and random not both 0, since not every text has functions"
            )


class RaftConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How documents become questions that are answered by quoting the right one.

    `num_distractors` documents stand around the right one, which is itself left out of a share of
    1 - `oracle_rate` of the training questions. `max_characters` bounds each document shown.
    """

    num_distractors: int = 3
    oracle_rate: float = 0.8
    max_characters: int = 900

    def __post_init__(self) -> None:
        if self.num_distractors < 1:
            raise ValueError(f"data.raft.num_distractors is {self.num_distractors}; it starts at 1")
        if not 0 <= self.oracle_rate <= 1:
            raise ValueError(f"data.raft.oracle_rate is {self.oracle_rate}; it must lie in [0, 1]")
        if self.max_characters < 80:
            raise ValueError(f"data.raft.max_characters is {self.max_characters}; it starts at 80")
