"""RAFT examples: the right document among others, quoted; held-out documents stay held out."""

import json
import re

import pytest

from finetune.data.settings import DataConfig
from finetune.data.sources import load_dataset
from finetune.data.split import split_examples
from finetune.errors import DataError
from finetune.recipes.settings import RaftConfig


def function(number):
    return (
        f'def task_{number}(values):\n    """Do the thing of kind {number}."""\n'
        f"    result = values * {number}\n    print(result)\n    return result\n"
    )


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sources"
    path.mkdir()
    for file in range(12):
        text = "\n\n".join(function(file * 5 + number) for number in range(5))
        (path / f"m{file}.py").write_text(text, encoding="utf-8")
    return path


def config(path, **raft):
    return DataConfig(source="raft", path=str(path), heldout_fraction=0.25, raft=RaftConfig(**raft))


def shown(example):
    return re.findall(r"def task_(\d+)\(", example.messages[-2].content)


def test_the_answer_quotes_the_document_it_names(folder):
    examples = load_dataset(config(folder, oracle_rate=1.0)).examples
    assert len(examples) == 60
    for example in examples:
        question, answer = (turn.content for turn in example.messages)
        kind = re.search(r"the thing of kind (\d+)", question)[1]
        place = int(re.match(r"Document (\d+) says:", answer)[1])
        assert shown(example)[place - 1] == kind
        assert len(set(shown(example))) == 4
        quoted = "\n".join(line[2:] for line in answer.splitlines() if line.startswith(">"))
        assert quoted in question


def test_no_document_is_on_both_sides_not_even_as_a_distractor(folder):
    data = load_dataset(config(folder))
    split = split_examples(data.examples, fraction=0.25, max_heldout=100, seed=0)
    trained = {int(n) // 5 for example in split.train for n in shown(example)}
    held = {int(n) // 5 for example in split.heldout for n in shown(example)}
    assert trained | held == set(range(12))
    assert trained
    assert held
    assert not trained & held


def test_the_oracle_is_left_out_of_its_share_of_training_questions_only(folder):
    examples = load_dataset(config(folder, oracle_rate=0.5)).examples
    without = [e for e in examples if "says:" not in e.messages[-1].content]
    trained = [e for e in examples if e.side == "train"]
    assert 0.25 < len(without) / len(trained) < 0.75
    for example in without:
        assert example.side == "train"
        assert len(shown(example)) == 4
        assert example.messages[-1].content not in example.messages[-2].content


def test_the_seed_decides_everything(folder):
    def digests(seed):
        return [example.id for example in load_dataset(config(folder), seed=seed).examples]

    assert digests(1) == digests(1)
    assert digests(1) != digests(2)


def test_a_users_own_questions_are_asked_among_their_documents(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [
        {"question": f"Who is {n}?", "answer": f"It is {n}.", "document": f"Number {n} is {n}."}
        for n in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = load_dataset(config(path, oracle_rate=1.0, num_distractors=2))
    assert len(data.examples) == 20
    for example in data.examples:
        assert re.fullmatch(
            r"Document [123] says:\n\n> Number (\d+) is \1\.\n\nIt is \1\.",
            example.messages[-1].content,
        )


def test_too_few_documents_are_told_with_both_numbers(tmp_path):
    (tmp_path / "a.py").write_text(function(1), encoding="utf-8")
    (tmp_path / "b.py").write_text(function(2), encoding="utf-8")
    with pytest.raises(DataError, match=r"gives 1 different documents .* asked among 4"):
        load_dataset(config(tmp_path))
