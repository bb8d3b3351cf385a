"""Problems by suite, file or held-out side."""

import json

import pytest

from finetune.errors import EvaluationError
from finetune.evaluate.suites import Problem, drawn, load_suite


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_held_out_examples_are_asked_up_to_their_last_answer(tmp_path):
    turns = [{"role": "user", "content": "add"}, {"role": "assistant", "content": "a + b"}]
    write(tmp_path / "heldout.jsonl", [{"id": "x", "messages": turns}])
    (problem,) = load_suite("heldout", None, tmp_path)
    assert (problem.task_id, problem.messages, problem.solution) == ("x", (turns[0],), "a + b")


def test_held_out_gaps_are_asked_and_plain_passages_are_not(tmp_path):
    gap = {"id": "g", "prefix": "a", "middle": "b", "suffix": "c", "order": "spm"}
    write(tmp_path / "heldout.jsonl", [gap, {"id": "p", "text": "words", "start": 0}])
    (problem,) = load_suite("heldout", None, tmp_path)
    assert (problem.kind, problem.prompt, problem.suffix) == ("infilling", "a", "c")
    assert problem.solution == "b"


def test_only_the_test_split_of_mbpp_is_asked(tmp_path):
    row = {"text": "Add.", "code": "x", "test_list": ["assert add(1, 2) == 3"]}
    write(tmp_path / "mbpp.jsonl", [row | {"task_id": number} for number in (10, 11, 510, 511)])
    problems = load_suite("mbpp", tmp_path, tmp_path)
    assert [(item.task_id, item.kind) for item in problems] == [
        ("11", "instruction"),
        ("510", "instruction"),
    ]


def test_a_file_with_a_suffix_is_about_gaps(tmp_path):
    row = {"task_id": "a", "prompt": "def f():\n", "suffix": "\n", "canonical_solution": "  pass"}
    (problem,) = load_suite(str(write(tmp_path / "mine.jsonl", [row])), None, tmp_path)
    assert (problem.kind, problem.suffix, problem.solution) == ("infilling", "\n", "  pass")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ("humanevil", "no suite `humanevil`; known: heldout, humaneval"),
        ("humaneval", r"needs its published file HumanEval\.jsonl\.gz; name its folder"),
        ("heldout", "heldout holds no problem"),
    ],
)
def test_an_absent_suite_says_what_is_known(tmp_path, suite, message):
    with pytest.raises(EvaluationError, match=message):
        load_suite(suite, None, tmp_path)


def test_a_row_that_is_no_problem_is_named(tmp_path):
    file = write(tmp_path / "odd.jsonl", [{"task_id": "a"}])
    with pytest.raises(EvaluationError, match=r"odd\.jsonl, row 1: no field 'prompt'"):
        load_suite(str(file), None, tmp_path)


@pytest.mark.parametrize("suite", ["humaneval", "mbpp", "humaneval-infilling"])
def test_the_published_files_are_read(shared_data, suite):
    num_problems = {"humaneval": 164, "mbpp": 500, "humaneval-infilling": 1033}
    problems = load_suite(suite, shared_data, shared_data)
    assert len(problems) == num_problems[suite]
    assert all(problem.solution for problem in problems)


def test_a_sample_is_the_same_whatever_the_order_and_part_of_a_larger_one():
    problems = [Problem(task_id=str(n), kind="function", solution="x") for n in range(50)]
    ids = [item.task_id for item in drawn(problems, 10)]
    assert len(ids) == 10
    assert ids == sorted(ids, key=int) != [str(n) for n in range(10)]
    assert set(ids) == {item.task_id for item in drawn(problems[::-1], 10)}
    assert set(ids) < {item.task_id for item in drawn(problems, 20)}
