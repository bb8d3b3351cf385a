"""Pairs of a better and a worse answer: rows, digests, token ids."""

import pytest

from finetune.config import Config, DataConfig, TrainConfig
from finetune.data.examples import Dataset
from finetune.data.gate import text_of
from finetune.data.preferences import prepare_pairs
from finetune.data.prepare import prepare
from finetune.data.rows import detect_format, to_example
from finetune.errors import DataError

QUESTION = {"role": "user", "content": "add"}


def answer(text):
    return {"role": "assistant", "content": text}


def example(row):
    return to_example(row, format_name="preference", system=None, where="rows.jsonl, row 1")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "add", "chosen": "yes", "rejected": "no"},
        {"prompt": [QUESTION], "chosen": [answer("yes")], "rejected": [answer("no")]},
        {"chosen": [QUESTION, answer("yes")], "rejected": [QUESTION, answer("no")]},
        {
            "prompt": "add",
            "chosen": [QUESTION, answer("yes")],
            "rejected": [QUESTION, answer("no")],
        },
    ],
)
def test_every_spelling_of_a_pair_is_the_same_example(row):
    assert detect_format(row, "here") == "preference"
    found = example(row)
    assert [turn.content for turn in found.messages] == ["add", "yes"]
    assert found.rejected == "no"
    assert found.id == example({"prompt": "add", "chosen": "yes", "rejected": "no"}).id


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "add", "chosen": "yes", "rejected": "yes "}, "are the same, so neither"),
        ({"prompt": "add", "chosen": "yes", "rejected": " "}, "two answers, none empty"),
        ({"chosen": "yes", "rejected": "no"}, "a preference needs a question"),
        ({"prompt": "add", "chosen": 3, "rejected": "no"}, "chosen must be text or messages"),
        (
            {
                "chosen": [QUESTION, answer("yes")],
                "rejected": [{"role": "user", "content": "sub"}, answer("no")],
            },
            "must answer the same conversation",
        ),
    ],
)
def test_what_is_no_preference_is_refused_with_its_place(row, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl, row 1.*{message}"):
        example(row)


def test_the_rejected_answer_is_part_of_the_identity_and_of_what_the_gate_reads():
    one, other = (
        example({"prompt": "add", "chosen": "yes", "rejected": text}) for text in ("no", "never")
    )
    assert one.id != other.id
    assert "never" in text_of(other)


def prepared_pairs(rows, tokenizer, max_length=128):
    examples = tuple(example(row) for row in rows)
    dataset = Dataset(ref="rows", sha256="", size_bytes=0, licence=None, examples=examples)
    config = Config(
        data=DataConfig(max_heldout_examples=1), train=TrainConfig(max_seq_length=max_length)
    )
    return prepare_pairs(prepare(dataset, tokenizer, config), tokenizer, max_length)


def rows_of(rejected):
    return [{"prompt": f"add {n}", "chosen": f"a + {n}", "rejected": rejected} for n in range(6)]


def test_both_answers_follow_the_same_prompt_and_end_their_turn(tiny_tokenizer):
    prepared, pairs = prepared_pairs(rows_of("I cannot"), tiny_tokenizer)
    assert len(pairs.train) == len(prepared.train.encoded)
    for pair, row in zip(pairs.train, prepared.train.encoded, strict=True):
        assert tiny_tokenizer.decode(pair.prompt_ids).endswith("<|im_start|>assistant\n")
        assert tiny_tokenizer.decode(pair.rejected_ids) == "I cannot<|im_end|>"
        assert pair.chosen.labels == row.labels
        assert pair.both.num_tokens == pair.chosen.num_tokens + pair.rejected.num_tokens


def test_only_the_last_answer_of_a_conversation_is_preferred(tiny_tokenizer):
    earlier = [QUESTION, answer("which?"), {"role": "user", "content": "these"}]
    row = {"prompt": earlier, "chosen": [answer("ok")], "rejected": [answer("no")]}
    _, pairs = prepared_pairs([row, *rows_of("no")], tiny_tokenizer)
    (pair,) = (
        pair
        for pair in (*pairs.train, *pairs.heldout)
        if "which?" in tiny_tokenizer.decode(pair.prompt_ids)
    )
    assert tiny_tokenizer.decode(pair.chosen_ids) == "ok<|im_end|>"


def test_a_pair_with_one_long_answer_leaves_and_is_counted(tiny_tokenizer):
    rows = [*rows_of("no"), {"prompt": "x", "chosen": "y", "rejected": "z" * 300}]
    prepared, pairs = prepared_pairs(rows, tiny_tokenizer)
    assert len(pairs.train) + len(pairs.heldout) == 6
    assert prepared.num_too_long == 1
    with pytest.raises(DataError, match="no pair is left to train on"):
        prepared_pairs(rows_of("z" * 300), tiny_tokenizer)


def test_examples_without_a_rejected_answer_are_refused(tiny_tokenizer, rows_file):
    rows = [{"prompt": f"{n}", "completion": "a"} for n in range(3)]
    examples = tuple(
        to_example(row, format_name="prompt_completion", system=None, where="here") for row in rows
    )
    dataset = Dataset(ref="rows", sha256="", size_bytes=0, licence=None, examples=examples)
    prepared = prepare(dataset, tiny_tokenizer, Config())
    with pytest.raises(DataError, match=r"has no rejected answer; train\.method dpo"):
        prepare_pairs(prepared, tiny_tokenizer, 128)
