"""What predictions are worth: a file written again with a change, and text nobody foresaw.

Each turn asks the same server twice, with drafts and without (`drafts: false`, which servers that
know no drafts ignore), so that the speedup is one server's own and of the same minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clients.bench import load
from clients.bench.scenarios import Ask, code
from clients.bench.workloads import WorkloadError, answered

if TYPE_CHECKING:
    from clients.bench.load import Measured
    from clients.bench.workloads import Figures, Turn

NUM_FUNCTIONS = 12
NUM_GIVEN_LINES = 3  # of the new file, so that even a small model sees that it is to copy
OLD_NAME = "_4("
NEW_NAME = "_four("
FREE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.05, "seed": 7}
QUESTION = "\nA letter from an old sailor to his granddaughter about the worst storm of his life:\n"


async def edit(turn: Turn) -> Figures:
    """Write a file again in which one function has another name; the old file is the prediction."""
    before = code(0, turn.key, NUM_FUNCTIONS)
    after = before.replace(OLD_NAME, NEW_NAME)
    given = "".join(after.splitlines(keepends=True)[:NUM_GIVEN_LINES])
    prompt = (
        f"# {turn.key}: the file before\n{before}\n"
        f"# the same file, in which the name that ends in {OLD_NAME[:-1]} ends in "
        f"{NEW_NAME[:-1]}\n{given}"
    )
    return await _both(turn, prompt, before)


async def unforeseen(turn: Turn) -> Figures:
    """Write text that neither the prediction nor the prompt has anything to do with."""
    return await _both(turn, turn.key + QUESTION, code(0, turn.key, NUM_FUNCTIONS), FREE)


async def _both(
    turn: Turn, prompt: str, prediction: str, sampling: dict[str, Any] | None = None
) -> Figures:
    """Return the rates with and without drafts; the prompt is read before either is timed."""
    fields = (sampling or {}) | {"prediction": {"type": "content", "content": prediction}}
    num = turn.sizes.num_edited_tokens
    ask = Ask(kind="complete", prompt=prompt, max_tokens=num, extra=fields)
    plain = Ask(kind="complete", prompt=prompt, max_tokens=num, extra=fields | {"drafts": False})
    first = Ask(kind="complete", prompt=prompt, max_tokens=1, extra={"drafts": False})
    answers = [await load.one(turn.client, each) for each in (first, plain, ask, ask, plain)]
    _, *measured = answered(answers)
    without = _rate(measured[0], measured[3])
    drafted = _rate(measured[1], measured[2])
    return {
        "tokens_per_second": drafted,
        "plain_tokens_per_second": without,
        "speedup": drafted / without,
    }


def _rate(*answers: Measured) -> float:
    """Return tokens a second after the first piece.

    Raises:
        WorkloadError: too little was written.
    """
    num_tokens = sum(answer.num_tokens - 1 for answer in answers)
    seconds = sum(answer.total_seconds - answer.first_token_seconds for answer in answers)
    if num_tokens < 2 * len(answers) or not seconds:
        raise WorkloadError("the answers ended after a few tokens, too few to time")
    return num_tokens / seconds
