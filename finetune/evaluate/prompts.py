"""A problem as the token ids that a model continues, and what ends an answer.

    chat         the chat template around a question, as a server would send it
    completion   the code itself, for base models
    fim          prefix and suffix between the model's own fill-in-the-middle tokens

Before and after are asked with the same ids. Knows tokenizers, no model.
"""

from typing import Any, Literal

import msgspec

from finetune.data.tokens import stop_token_ids
from finetune.errors import EvaluationError
from finetune.evaluate.suites import Problem

Mode = Literal["chat", "completion", "fim"]
FIM_TOKENS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001  # DeepSeek's spelling
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
)
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
    ends = [*OTHER_ENDS, *(token for family in FIM_TOKENS for token in family)]
    return stop_token_ids(tokenizer) | {vocabulary[token] for token in ends if token in vocabulary}


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
    vocabulary = tokenizer.get_vocab()
    for family in FIM_TOKENS:
        if all(token in vocabulary for token in family):
            prefix, suffix, middle = (vocabulary[token] for token in family)
            before, after = (
                tokenizer(text, add_special_tokens=False)["input_ids"]
                for text in (problem.prompt, problem.suffix)
            )
            start = [] if tokenizer.bos_token_id is None else _bos(tokenizer)
            return [*start, prefix, *before, suffix, *after, middle]
    raise EvaluationError(
        "this model has no fill-in-the-middle tokens, so it cannot fill a gap; evaluate it on "
        "humaneval or mbpp, or give --mode completion"
    )


def _bos(tokenizer: Any) -> list[int]:
    """Return the token this tokenizer begins every text with, when it has one."""
    ids = tokenizer("")["input_ids"]
    return [ids[0]] if ids[:1] == [tokenizer.bos_token_id] else []
