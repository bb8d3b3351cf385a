"""A problem as the token ids that a model continues, and what ends an answer.

    chat         the chat template around a question, as a server would send it
    completion   the code itself, for base models
    fim          prefix and suffix between the model's own fill-in-the-middle tokens

Before and after are asked with the same ids. Knows tokenizers, no model.
"""

from typing import Any, Literal

import msgspec

from finetune.data.tokens import leading_ids, stop_token_ids, token_ids
from finetune.errors import EvaluationError
from finetune.evaluate.suites import Problem
from finetune.recipes.fim_tokens import find_fim_tokens

Mode = Literal["chat", "completion", "fim"]
OTHER_ENDS = ("<|endoftext|>", "<|file_sep|>", "<|fim_pad|>", "<file_sep>", "▁<EOT>")


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What one problem is asked with."""

    task_id: str
    mode: Mode
    input_ids: list[int]


def mode_of(problem: Problem, wanted: Mode | None) -> Mode:
    """Return how a problem is asked; a conversation is a chat whatever is wanted."""
    if problem.kind == "conversation":
        return "chat"
    return wanted or ("fim" if problem.kind == "infilling" else "chat")


def make_prompt(problem: Problem, tokenizer: Any, wanted: Mode | None) -> Prompt:
    """Lay a problem out.

    Raises:
        EvaluationError: a gap is to be filled and the tokenizer has no tokens for it.
    """
    mode = mode_of(problem, wanted)
    if mode == "fim":
        input_ids = _fim(problem, tokenizer)
    elif mode == "completion":
        input_ids = tokenizer(_text(problem))["input_ids"]
    else:
        input_ids = _chat(problem, tokenizer)
    return Prompt(task_id=problem.task_id, mode=mode, input_ids=input_ids)


def end_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids that end an answer; an answer that meets one has stopped by itself."""
    vocabulary = tokenizer.get_vocab()
    ends = {vocabulary[token] for token in OTHER_ENDS if token in vocabulary}
    marks = find_fim_tokens(tokenizer)
    if marks is not None:
        ends |= {marks.prefix, marks.suffix, marks.middle, marks.end}
    return stop_token_ids(tokenizer) | ends


def _chat(problem: Problem, tokenizer: Any) -> list[int]:
    messages = list(problem.messages) or [{"role": "user", "content": _question(problem)}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _question(problem: Problem) -> str:
    if problem.kind == "instruction":
        return (
            f"{problem.prompt}\nYour code should pass these tests:\n\n{problem.tests}\n\n"
            "Answer with one Python code block."
        )
    return (
        "Complete this Python function. Answer with the whole function in one code block.\n\n"
        f"```python\n{problem.prompt}\n```"
    )


def _text(problem: Problem) -> str:
    if problem.kind == "instruction":
        return f'"""\n{problem.prompt}\n{problem.tests}\n"""\n'
    return problem.prompt


def _fim(problem: Problem, tokenizer: Any) -> list[int]:
    marks = find_fim_tokens(tokenizer)
    if marks is None:
        raise EvaluationError(
            "this model has no fill-in-the-middle tokens, so it cannot fill a gap; evaluate it on "
            "humaneval or mbpp, or give --mode completion"
        )
    before = token_ids(tokenizer, problem.prompt)
    after = token_ids(tokenizer, problem.suffix)
    bos = leading_ids(tokenizer)
    return [*bos, marks.prefix, *before, marks.suffix, *after, marks.middle]
