"""Conversations come back with the ids they had; other texts with those of the tokenizer."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat.transcripts import Transcripts

MARKS = {"<s>": 1, "<end>": 2, "<user>": 3}
PAIRS = {"ab": 300, "cd": 301, " a": 302}


class Bytes:
    """A tokenizer of bytes, marks, and a few pairs that it always takes together."""

    def __init__(self):
        self.names = {number: name for name, number in (MARKS | PAIRS).items()}

    def tokenize(self, text, *, add_special, parse_special):
        ids, at = [1] if add_special else [], 0
        while at < len(text):
            known = MARKS | PAIRS if parse_special else PAIRS
            name = next((name for name in known if text.startswith(name, at)), None)
            ids += [known[name]] if name else [byte + 10 for byte in text[at].encode()]
            at += len(name) if name else 1
        return ids

    def token_bytes(self, token_id):
        name = self.names.get(token_id)
        return name.encode() if name else bytes([token_id - 10])

    def is_control(self, token_id):
        return token_id in MARKS.values()


@pytest.fixture
def tokenizer():
    return Bytes()


@pytest.fixture
def transcripts(tokenizer):
    return Transcripts(tokenizer)


PROMPT = "<user>hello<end>"
LETTERS = [ord("a") + 10, ord("b") + 10]  # the tokenizer would take them together


def answered(transcripts, token_ids=(*LETTERS, 2), scope=""):
    prompt_ids = transcripts.tokenize(PROMPT, scope, add_special=False)
    transcripts.note(prompt_ids, token_ids, scope)
    return [*prompt_ids, *token_ids]


def test_a_conversation_that_goes_on_keeps_the_ids_it_was_generated_with(transcripts):
    said = answered(transcripts)
    ids = transcripts.tokenize(PROMPT + "ab<end><user>cd", "", add_special=False)
    assert ids == [*said, 3, 301]


def test_the_template_may_close_a_turn_with_another_mark_than_the_model_did(transcripts):
    said = answered(transcripts)
    ids = transcripts.tokenize(PROMPT + "ab<user>cd", "", add_special=False)
    assert ids == [*said[:-1], 3, 301]


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        (PROMPT + "abab", ""),  # words join up: where one ends is the tokenizer's to say
        (PROMPT + "a<end>", ""),
        (PROMPT + " ab<end>", ""),
        (PROMPT + "ab<end>", "another key"),
    ],
)
def test_any_other_text_is_tokenized_anew(transcripts, tokenizer, text, scope):
    answered(transcripts)
    expected = tokenizer.tokenize(text, add_special=False, parse_special=True)
    assert transcripts.tokenize(text, scope, add_special=False) == expected


def test_an_answer_cut_within_a_character_is_not_remembered(transcripts, tokenizer):
    answered(transcripts, [0xC3 + 10])
    text = PROMPT + "\ufffd<end>"
    expected = tokenizer.tokenize(text, add_special=False, parse_special=True)
    assert transcripts.tokenize(text, "", add_special=False) == expected


def test_what_was_said_long_ago_is_forgotten(tokenizer):
    transcripts = Transcripts(tokenizer, max_chars=3 * len(PROMPT))
    answered(transcripts)
    for number in range(4):
        ids = transcripts.tokenize(f"{number}{PROMPT}", "", add_special=False)
        transcripts.note(ids, [20], "")
    text = PROMPT + "ab<end>"
    assert transcripts.tokenize(text, "", add_special=False)[-2:] == [300, 2]


@given(st.integers(0, 10_000))
def test_ids_always_spell_the_text_and_begin_with_what_was_generated(seed):
    draw = random.Random(seed)
    tokenizer = Bytes()
    transcripts = Transcripts(tokenizer)
    text, said = "", []
    for _ in range(6):
        text += "<user>" + "".join(draw.choices("abcd ", k=draw.randrange(4))) + "<end>"
        ids = transcripts.tokenize(text, "", add_special=False)
        assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text
        assert ids[: len(said)] == said
        answer = [ord(letter) + 10 for letter in draw.choices("abcd ", k=draw.randrange(1, 4))]
        transcripts.note(ids, [*answer, 2], "")
        said = [*ids, *answer, 2]
        text += bytes(each - 10 for each in answer).decode() + "<end>"
