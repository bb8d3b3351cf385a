import gzip
import json

import pytest

from clients.errors import UsageError
from clients.evaluate import problems, solutions

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """Add."""\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a function that adds.",
    "code": "def add(a, b):\r\n  return a + b",
    "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3"],
}
INFILLING = {
    **HUMANEVAL,
    "task_id": "SingleLineInfilling/HumanEval/0/L0",
    "suffix": "    return c\n",
    "canonical_solution": "    c = a + b\n",
}


def only(row: dict, tmp_path) -> problems.Problem:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    (problem,) = problems.load(str(file), None)
    return problem


@pytest.mark.parametrize("row", [HUMANEVAL, MBPP, INFILLING])
def test_published_solutions_pass_and_wrong_ones_do_not(row, tmp_path, cage):
    problem = only(row, tmp_path)
    assert cage.run(solutions.reference(problem)).outcome == "passed"
    wrong = {**row, "canonical_solution": "    c = 0\n    return 0\n", "code": "def add(a, b): ..."}
    assert cage.run(solutions.reference(only(wrong, tmp_path))).outcome == "failed"


def test_kinds_are_told_apart_by_their_fields(tmp_path):
    kinds = [only(row, tmp_path).kind for row in (HUMANEVAL, MBPP, INFILLING)]
    assert kinds == ["function", "instruction", "infilling"]


def test_mbpp_is_its_published_test_split_without_carriage_returns(tmp_path):
    rows = [{**MBPP, "task_id": number} for number in (10, 11, 510, 511)]
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = problems.load("mbpp", tmp_path)
    assert [problem.task_id for problem in found] == ["11", "510"]
    assert "\r" not in found[0].solution


def test_compressed_files_and_json_lists_are_read(tmp_path):
    packed = tmp_path / "HumanEval.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode()))
    assert problems.load("humaneval", tmp_path)[0].entry_point == "add"
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([MBPP, MBPP]))
    assert len(problems.load(str(listed), None)) == 2


def test_a_suite_that_is_not_there_says_which_file_and_where(tmp_path):
    with pytest.raises(UsageError, match=r"mbpp\.jsonl.*--data"):
        problems.load("mbpp", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"task_id": 1}\n', "row 1: no field 'prompt'"),
        ("not json\n", "cannot read"),
        ("\n", "holds no problem"),
    ],
)
def test_a_file_that_is_no_suite_is_named(tmp_path, content, message):
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        problems.load(str(file), None)


def test_an_unknown_suite_lists_the_known_ones():
    with pytest.raises(UsageError, match="humaneval, mbpp"):
        problems.load("humanevil", None)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", "passed"),
        ("```\nprint('usage')\n```\n```python\ndef add(a, b):\n    return a + b\n```", "passed"),
        ("```python\n    return a + b\n```", "passed"),  # only the body
        ("def add(a, b):\n    return a + b", "passed"),  # no fence
        ("```python\ndef add(a, b):\n    return a + b\n", "passed"),  # cut before its fence
        ("```python\ndef add(a, b):\n    return a - b\n```", "failed"),
        ("I cannot.", "error"),
    ],
)
def test_chat_answers_are_taken_out_of_their_talk(tmp_path, cage, answer, outcome):
    text = solutions.program(only(HUMANEVAL, tmp_path), answer, "chat")
    assert cage.run(text).outcome == outcome


def test_helpers_of_the_prompt_stay_available_to_a_whole_function(tmp_path, cage):
    row = {**HUMANEVAL, "prompt": "def one():\n    return 1\n\n" + HUMANEVAL["prompt"]}
    answer = "```python\ndef add(a, b):\n    return a + b + one() - 1\n```"
    assert cage.run(solutions.program(only(row, tmp_path), answer, "chat")).outcome == "passed"


def test_completions_are_cut_where_new_top_level_code_begins(tmp_path):
    answer = "    return a + b\n\nprint(add(1))\ndef more():"
    text = solutions.program(only(HUMANEVAL, tmp_path), answer, "completion")
    assert "print" not in text
    assert "more" not in text


def test_single_line_fillings_keep_one_line(tmp_path, cage):
    problem = only(INFILLING, tmp_path)
    text = solutions.program(problem, "    c = a + b\n    return 7\n", "fim")
    assert cage.run(text).outcome == "passed"
