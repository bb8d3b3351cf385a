"""The loss mask on a real tokenizer: the answer, its end of turn, nothing else."""

import pytest

from finetune.data.examples import Message, conversation, make_example
from finetune.data.tokens import IGNORED, encode, stop_token_ids
from finetune.errors import TemplateError


def encoded(example, tokenizer):
    return encode(example, tokenizer, stop_token_ids(tokenizer))


def learnt(row, tokenizer):
    return tokenizer.decode([label for label in row.labels if label != IGNORED])


def test_only_the_answer_and_its_end_of_turn_are_learnt(smollm2_tokenizer):
    row = encoded(conversation("add", "def add(a):\n    return a"), smollm2_tokenizer)
    assert learnt(row, smollm2_tokenizer) == "def add(a):\n    return a<|im_end|>"
    assert row.labels[-1] == smollm2_tokenizer.eos_token_id


def test_what_is_not_learnt_is_exactly_what_a_server_would_send(smollm2_tokenizer):
    example = conversation("add", "\n\n  x = 1")
    row = encoded(example, smollm2_tokenizer)
    prompt = smollm2_tokenizer.apply_chat_template(
        example.plain()[:1], add_generation_prompt=True, return_dict=False
    )
    assert row.input_ids[: len(prompt)] == prompt
    assert row.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert row.labels[len(prompt)] != IGNORED


def test_every_answer_of_a_conversation_is_learnt(smollm2_tokenizer):
    turns = [("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2")]
    example = make_example([Message(role=role, content=text) for role, text in turns])
    row = encoded(example, smollm2_tokenizer)
    assert learnt(row, smollm2_tokenizer) == "1<|im_end|>2<|im_end|>"
    whole = smollm2_tokenizer.apply_chat_template(example.plain(), tokenize=False)
    assert smollm2_tokenizer.decode(row.input_ids) == whole.rstrip("\n")


@pytest.mark.parametrize("answer", ["é ☃ 你好", "a  b\t c ?", "```python\nx\n```", "<b> , . !"])
def test_unusual_text_comes_back_unchanged(smollm2_tokenizer, answer):
    row = encoded(conversation("q", answer), smollm2_tokenizer)
    assert learnt(row, smollm2_tokenizer) == answer + "<|im_end|>"


def test_a_template_without_end_of_turn_is_refused(tiny_tokenizer):
    tiny_tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    with pytest.raises(TemplateError, match=r"ends an answer with .*never stops"):
        encoded(conversation("q", "a"), tiny_tokenizer)


def test_a_template_that_hides_the_start_of_the_answer_is_refused(tiny_tokenizer):
    tiny_tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(TemplateError, match=r"renders example .* differently"):
        encoded(conversation("q", "a"), tiny_tokenizer)


def test_a_template_that_raises_is_named(tiny_tokenizer):
    tiny_tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(TemplateError, match="no system role"):
        encoded(conversation("q", "a"), tiny_tokenizer)


def test_cutting_keeps_ids_and_labels_in_step(tiny_tokenizer):
    row = encoded(conversation("q", "abc"), tiny_tokenizer).cut(5)
    assert (len(row.input_ids), len(row.labels)) == (5, 5)
