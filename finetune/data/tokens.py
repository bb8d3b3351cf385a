"""Conversations as token ids with a loss mask: answers and their end-of-turn token, nothing else.

    <|im_start|>user ... <|im_end|> <|im_start|>assistant | def f(): ... <|im_end|>
    |------------------- label -100 ---------------------| |------ learnt -------|

The prompt is what a server would send (`add_generation_prompt`), so training and serving split the
text at the same place. Knows no model and no file.
"""

from typing import Any

import msgspec

from finetune.data.examples import Example
from finetune.errors import TemplateError

IGNORED = -100
END_OF_TEXT_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>")
END_OF_TURN_TOKENS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>")


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """Token ids and labels of equal length; a label of -100 is not learnt."""

    id: str
    input_ids: list[int]
    labels: list[int]

    @property
    def num_tokens(self) -> int:
        """How many tokens the example has."""
        return len(self.input_ids)

    @property
    def num_learnt(self) -> int:
        """How many tokens carry loss."""
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> "Encoded":
        """Return the example without the tokens past a length."""
        return Encoded(id=self.id, input_ids=self.input_ids[:length], labels=self.labels[:length])


def encode(example: Example, tokenizer: Any, stop_ids: frozenset[int]) -> Encoded:
    """Tokenize a conversation and mark the answers.

    Raises:
        TemplateError: the template cannot say where an answer starts, or does not end it with a
            token that stops generation.
    """
    if not tokenizer.chat_template:
        raise TemplateError(
            "there are conversations to learn, but template.name is none; name a template"
        )
    input_ids: list[int] = []
    labels: list[int] = []
    text_before = ""
    messages = example.plain()
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], generate=True)
        whole = _render(tokenizer, messages[: index + 1], generate=False)
        if not (prompt.startswith(text_before) and whole.startswith(prompt)):
            raise TemplateError(_not_a_prefix(example))
        answer, text = _answer(whole[len(prompt) :], tokenizer, stop_ids)
        question = token_ids(tokenizer, prompt[len(text_before) :])
        input_ids += question + answer
        labels += [IGNORED] * len(question) + answer
        text_before = prompt + text
    return Encoded(id=example.id, input_ids=input_ids, labels=labels)


def stop_token_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids that end generation: EOS and the end-of-turn tokens of known families."""
    vocabulary = tokenizer.get_vocab()
    known = {vocabulary[token] for token in END_OF_TURN_TOKENS if token in vocabulary}
    return frozenset(known | {tokenizer.eos_token_id})


def end_of_text_id(tokenizer: Any) -> int:
    """Return the id that ends a document, which in a chat model is not what ends a turn."""
    vocabulary = tokenizer.get_vocab()
    known = (vocabulary[token] for token in END_OF_TEXT_TOKENS if token in vocabulary)
    return int(next(known, tokenizer.eos_token_id))


def leading_ids(tokenizer: Any) -> list[int]:
    """Return the BOS with which this tokenizer begins plain text, or nothing."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return ids[:1] if ids[0] == tokenizer.bos_token_id else []


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenize a part of a text; nothing is put around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _render(tokenizer: Any, messages: list[dict[str, Any]], *, generate: bool) -> str:
    import jinja2

    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generate
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise TemplateError(f"the chat template fails on an example: {error}") from error
    return text


def _answer(text: str, tokenizer: Any, stop_ids: frozenset[int]) -> tuple[list[int], str]:
    """Tokenize an answer up to and including its end-of-turn token; return ids and their text."""
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    answer, spans = tokens["input_ids"], tokens["offset_mapping"]
    for index in range(len(answer) - 1, -1, -1):
        if answer[index] in stop_ids:
            end = spans[index][1]
            if not text[end:].strip():
                return answer[: index + 1], text[:end]
            break
    raise TemplateError(
        f"the chat template ends an answer with {tokenizer.decode(answer[-3:])!r}, no end-of-turn "
        f"token (the tokenizer's is {tokenizer.eos_token}): a model trained so never stops; set "
        "template.name, or template.eos_token to the token the template ends a turn with"
    )


def _not_a_prefix(example: Example) -> str:
    return (
        f"the chat template renders example {example.id[:8]} differently with and without its "
        "answer, so the start of the answer cannot be told; set template.name or template.file"
    )
