"""What holding an answer to a schema costs: the same prompt with a schema and without.

Nothing is drafted. With records the names of fields are forced and need no step of their own; a
list of strings leaves the model every choice, so it shows what checking each token costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clients.bench import load
from clients.bench.edits import rate
from clients.bench.scenarios import Ask
from clients.bench.workloads import answered

if TYPE_CHECKING:
    from clients.bench.workloads import Figures, Turn

QUESTION = "\nThe people of a small harbour town, as a list in JSON:\n"
RECORDS: dict[str, Any] = {
    "type": "array",
    "minItems": 40,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "occupation": {"type": "string"},
            "age": {"type": "integer"},
            "is_married": {"type": "boolean"},
        },
        "required": ["name", "occupation", "age", "is_married"],
        "additionalProperties": False,
    },
}
STRINGS: dict[str, Any] = {"type": "array", "minItems": 200, "items": {"type": "string"}}


async def constrained(turn: Turn) -> Figures:
    """Return the rates of all three; the prompt and the schemas are read before they are timed."""
    asks = {name: _ask(turn, schema) for name, schema in _SCHEMAS.items()}
    first = [_ask(turn, schema, max_tokens=1) for schema in _SCHEMAS.values()]
    there, back = list(asks.values()), list(reversed(asks.values()))
    answers = [await load.one(turn.client, each) for each in (*first, *there, *back)]
    measured = answered(answers)[len(first) :]
    pairs = zip(measured[: len(asks)], reversed(measured[len(asks) :]), strict=True)
    rates = dict(zip(asks, (rate(*pair) for pair in pairs), strict=True))
    return {
        "tokens_per_second": rates["records"],
        "strings_tokens_per_second": rates["strings"],
        "plain_tokens_per_second": rates["plain"],
        "to_plain": rates["records"] / rates["plain"],
        "strings_to_plain": rates["strings"] / rates["plain"],
    }


_SCHEMAS = {"plain": None, "records": RECORDS, "strings": STRINGS}


def _ask(turn: Turn, schema: dict[str, Any] | None, *, max_tokens: int | None = None) -> Ask:
    held = {} if schema is None else {"json_schema": schema}
    return Ask(
        kind="complete",
        prompt=turn.key + QUESTION,
        max_tokens=turn.sizes.num_edited_tokens if max_tokens is None else max_tokens,
        extra={"drafts": False, "ignore_eos": True, "temperature": 0} | held,
    )
