r"""Ask an instruct model for the text at a cursor, where its vocabulary has no tokens for that.

    [system] what to do   [user] before <CURSOR> after   [assistant] ```\n the cursor's line so far

The answer is begun for the model, so that it goes on in the middle of the line; it ends where the
fence closes. Weaker than tokens a model was trained with. Knows no template and no tokens.
"""

from __future__ import annotations

from typing import Any

CURSOR = "<CURSOR>"
STOP = "\n```"
_TASK = (
    f"You complete code. In the user's text {CURSOR} marks a gap. Write what belongs in the gap, "
    "and nothing else: neither the text before it nor the text after it, no explanation."
)


def turns(before: str, after: str) -> list[dict[str, Any]]:
    """Return the conversation, the beginning of its answer included."""
    line = before.rpartition("\n")[2]
    return [
        {"role": "system", "content": _TASK},
        {"role": "user", "content": f"{before}{CURSOR}{after}"},
        {"role": "assistant", "content": f"```\n{line}"},
    ]
