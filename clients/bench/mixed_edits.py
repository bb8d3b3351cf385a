"""The `mixed-edits` scenario: someone types in a file that was read, while a long prompt is read.

Each request is the whole file around the cursor, some 1,400 tokens, with a little more typed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.bench import load
from clients.bench.scenarios import Ask, code
from clients.bench.workloads import ARRIVALS, answered, first_tokens, long_prompt, silent

if TYPE_CHECKING:
    from clients.bench.workloads import Figures, Turn

FUNCTIONS_BEFORE, FUNCTIONS_AFTER = 60, 20  # about 18 tokens each
TYPED = (
    "    best = values[0]\n",
    "    for value in ",
    "values:\n",
    "        if value >",
    " best:\n",
)


async def mixed_edits(turn: Turn) -> Figures:
    """Open the file, unmeasured; then type while a long prompt that no cache knows is read."""
    answered([await load.one(turn.client, _gap(turn, 0))])
    prompt = long_prompt(turn.key, turn.sizes.num_long_functions)
    asks = [Ask(kind="complete", prompt=prompt, max_tokens=1, label="long")]
    asks += [_gap(turn, number) for number in range(1, len(TYPED) + 1)]
    times = [0.0, *(part * turn.sizes.long_seconds for part in ARRIVALS)]
    measured = answered(await load.open_loop(turn.client, asks, times, on_progress=silent))
    (long,) = (answer for answer in measured if answer.label == "long")
    small = [answer for answer in measured if answer.label == "short"]
    return {**first_tokens(small), "long_first_token_seconds": long.first_token_seconds}


def _gap(turn: Turn, num_typed: int) -> Ask:
    before = f"# file {turn.key}\n{code(1, turn.key, FUNCTIONS_BEFORE)}\ndef largest(values):\n"
    after = f"\n    return best\n\n{code(2, turn.key, FUNCTIONS_AFTER)}"
    return turn.fim.ask(before + "".join(TYPED[:num_typed]), after, turn.sizes.num_small_tokens)
