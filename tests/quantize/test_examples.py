"""Examples become prompts and responses, and the budget bounds what is scored."""

import pytest

from quantize.errors import SourceError
from quantize.examples import (
    example_texts,
    plain_texts,
    python_source,
    read_examples,
    render,
    split_turns,
    text_file,
)

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NAMES = {"eos_token": "$"}
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]


class ByteTokenizer:
    """Take each character as a token."""

    def tokenize(self, text, *, parse_special, add_special):
        return [ord(letter) for letter in text]


def test_prompt_and_response_together_are_the_whole():
    assert split_turns(TEMPLATE, TURNS, NAMES) == ("<user>hi$<assistant>", "yes$")


def test_the_budget_ends_within_a_response():
    texts = example_texts(
        ByteTokenizer(), TEMPLATE, [TURNS] * 3, scored_tokens=6, max_example_tokens=64, names=NAMES
    )
    assert [len(text.response_token_ids) for text in texts] == [4, 2]


def test_an_example_that_does_not_fit_is_left_out():
    texts = example_texts(
        ByteTokenizer(), TEMPLATE, [TURNS], scored_tokens=6, max_example_tokens=16, names=NAMES
    )
    assert texts == []


def test_plain_text_is_scored_in_windows_after_some_context():
    texts = plain_texts(ByteTokenizer(), "x" * 100, scored_tokens=70, max_example_tokens=32)
    assert [len(text.prompt_token_ids) for text in texts] == [2, 2, 2]
    assert sum(len(text.response_token_ids) for text in texts) == 70


def test_a_template_that_refuses_says_so():
    with pytest.raises(SourceError, match="no system here"):
        render(
            "{{ raise_exception('no system here') }}", TURNS, add_generation_prompt=True, names={}
        )


@pytest.mark.parametrize(
    "row", ["{", '{"id": 1}', '{"messages": []}', '{"messages": [{"role": "user"}]}']
)
def test_a_row_that_is_no_conversation_is_named(tmp_path, row):
    path = tmp_path / "heldout.jsonl"
    path.write_text('{"messages": [{"role": "assistant", "content": "a"}]}\n' + row + "\n")
    with pytest.raises(SourceError, match=r"heldout\.jsonl:2"):
        read_examples(path)


def test_text_comes_from_a_file_or_from_python_itself(tmp_path):
    (tmp_path / "t.txt").write_text("hello")
    assert text_file(tmp_path / "t.txt")[1].kind == "file"
    assert "def wrap" in python_source()[0]
    with pytest.raises(SourceError, match="cannot read the text"):
        text_file(tmp_path / "none.txt")
