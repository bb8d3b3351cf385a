"""The gate keeps out repeats, benchmark problems and secrets, and says what and how many."""

import json
import random

import pytest

from finetune.config import DataConfig
from finetune.data.examples import Dataset, conversation
from finetune.data.gate import pass_gate, read_problems
from finetune.errors import DataError

LONG = "write a function that reads each line of a file and returns those that hold a given word"
ANSWER = "def grep(path, word):\n    return [line for line in open(path) if word in line.split()]"


def dataset(*examples):
    return Dataset(ref="d", sha256="0", size_bytes=1, licence=None, examples=examples)


def example(number):
    words = random.Random(number).sample([f"word{n}" for n in range(500)], 40)
    return conversation(" ".join(words[:20]), " ".join(words[20:]))


def test_everything_honest_passes_in_its_order():
    examples = tuple(example(n) for n in range(30))
    kept, report = pass_gate(dataset(*examples), DataConfig())
    assert kept.examples == examples
    assert (report.num_kept, report.num_near_duplicates, report.num_with_secrets) == (30, 0, 0)


def test_of_two_near_copies_the_same_one_stays_whatever_the_order():
    copies = (conversation(LONG, ANSWER), conversation(LONG + "!", ANSWER))
    kept = [
        pass_gate(dataset(*order), DataConfig())[0].examples
        for order in ((*copies, example(1)), (example(1), *reversed(copies)))
    ]
    assert set(kept[0]) == set(kept[1])
    assert len(kept[0]) == 2


def test_a_benchmark_problem_is_dropped_and_named(tmp_path):
    path = tmp_path / "bench.jsonl"
    rows = [{"task_id": "HumanEval/7", "prompt": LONG, "canonical_solution": ANSWER}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = DataConfig(decontaminate=(str(path),))
    kept, report = pass_gate(dataset(conversation(LONG, ANSWER), example(2)), config)
    assert kept.examples == (example(2),)
    (found,) = report.contaminated
    assert (found["benchmark"], found["problem"], found["share"]) == (
        "bench.jsonl",
        "HumanEval/7",
        1.0,
    )
    assert found["begins"] == LONG[:60]


@pytest.mark.parametrize(("choice", "num_kept"), [("drop", 1), ("flag", 2)])
def test_secrets_are_dropped_or_only_flagged(choice, num_kept):
    leak = conversation("how do I log in?", "use ghp_" + "a1" * 20)
    _, report = pass_gate(dataset(leak, example(3)), DataConfig(secrets=choice))
    assert (report.num_kept, report.secrets) == (num_kept, {"GitHub token": 1})
    assert [found["kinds"] for found in report.with_secrets] == [["GitHub token"]]
    assert "ghp_" not in str(report)  # the report may be published with the run


def test_nothing_left_is_an_error_that_counts_the_reasons():
    leak = conversation("how do I log in?", "use ghp_" + "a1" * 20)
    with pytest.raises(DataError, match=r"none of the 1 examples of d is left: .*1 with what"):
        pass_gate(dataset(leak), DataConfig())


def test_a_benchmark_row_without_text_is_named(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text('{"entry_point": "f"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.jsonl, row 1: a benchmark problem needs one of"):
        read_problems(path)


def test_humaneval_and_mbpp_are_read_as_they_are(shared_data):
    assert len(read_problems(shared_data / "HumanEval.jsonl.gz")) == 164
    assert len(read_problems(shared_data / "mbpp.jsonl")) == 974
