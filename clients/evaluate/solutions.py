"""How a problem is asked, and how an answer becomes a program.

The rules, for every suite alike:

    completion   the answer continues the prompt; it is cut where new top-level code begins
    chat         the first fenced block that defines the function wanted, else the first block,
                 else the whole answer. Code that defines it stands after the prompt, whose own
                 function it replaces; code that does not is taken for the function's body
    fim          the answer goes between prompt and suffix; of single-line problems its first line

Knows problems and text; neither HTTP nor the sandbox.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from clients.evaluate.problems import Kind, Problem

Mode = Literal["completion", "chat", "fim"]
DEFAULT_MODES: dict[Kind, Mode] = {"function": "chat", "instruction": "chat", "infilling": "fim"}
TOP_LEVEL = ("\nclass ", "\ndef ", "\nif __name__", "\nprint(")  # servers take four at most
SINGLE_LINE = "SingleLineInfilling/"
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)


def question(problem: Problem) -> str:
    """Return what a chat model is asked."""
    if problem.kind == "instruction":
        return (
            f"{problem.prompt}\nYour code should pass these tests:\n\n{problem.tests}\n"
            "Answer with one Python code block."
        )
    return (
        "Complete this Python function. Answer with the whole function in one code block.\n\n"
        f"```python\n{problem.prompt}\n```"
    )


def text_prompt(problem: Problem) -> str:
    """Return what a completion model continues."""
    if problem.kind == "instruction":
        return f'"""\n{problem.prompt}\n{problem.tests}"""\n'
    return problem.prompt


def program(problem: Problem, answer: str, mode: Mode) -> str:
    """Return the whole program, tests included, that decides whether an answer is right."""
    if mode == "fim":
        code = problem.prompt + filling(problem, answer) + problem.suffix
    elif mode == "completion":
        kept = cut_at_top_level(answer, keeps_definitions=problem.kind == "instruction")
        code = kept if problem.kind == "instruction" else problem.prompt + kept
    else:
        code = _from_chat(problem, answer)
    return f"{code}\n\n{problem.tests}"


def reference(problem: Problem) -> str:
    """Return the program of the published solution."""
    if problem.kind == "instruction":
        return f"{problem.solution}\n\n{problem.tests}"
    return f"{problem.prompt}{problem.solution}{problem.suffix}\n\n{problem.tests}"


def filling(problem: Problem, answer: str) -> str:
    """Return what goes into the gap."""
    if not problem.task_id.startswith(SINGLE_LINE):
        return answer
    return answer.lstrip("\n").partition("\n")[0] + "\n"


def cut_at_top_level(answer: str, *, keeps_definitions: bool = False) -> str:
    """Drop what a model writes after the function it was asked for."""
    marks = [mark for mark in TOP_LEVEL if not (keeps_definitions and mark.strip() in _DEFINING)]
    ends = [at for mark in marks if (at := answer.find(mark)) >= 0]
    return answer[: min(ends)] if ends else answer


_DEFINING = {"class", "def"}


def extract(answer: str, entry_point: str) -> str:
    """Take the code out of a chat answer. A block that is cut off counts to its end."""
    blocks = [match[1] for match in _BLOCK.finditer(answer)]
    defining = [block for block in blocks if defines(block, entry_point)]
    return (defining or blocks or [answer])[0]


def defines(code: str, entry_point: str) -> bool:
    """Tell whether code defines the function wanted; any function when none is named."""
    name = re.escape(entry_point) if entry_point else r"\w+"
    return re.search(rf"^(?:async )?def {name}\b", code, re.MULTILINE) is not None


def _from_chat(problem: Problem, answer: str) -> str:
    code = extract(answer, problem.entry_point)
    if problem.kind == "instruction":
        return code
    if defines(code, problem.entry_point):
        return f"{problem.prompt}\n\n{code}"
    return problem.prompt + code
