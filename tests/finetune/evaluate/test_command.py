"""`evaluate` as a whole: answers, resumption, the table, and scores made elsewhere."""

import json

import pytest

from finetune.errors import EvaluationError, RunError
from finetune.evaluate import generate
from finetune.evaluate.command import evaluate


@pytest.fixture
def ask(tiny_run, tmp_path):
    def run(*more):
        words = [str(tiny_run), "--output", str(tmp_path / "out"), "--max-tokens", "4"]
        return evaluate([*words, *map(str, more)])

    return run


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_both_models_answer_and_the_run_stays_as_it_was(ask, tiny_run, tmp_path):
    before = files(tiny_run)
    table = ask()
    assert "| answers | 5 | 5 |" in table
    assert "| stops by itself |" in table
    assert "pass@1" not in table
    assert files(tiny_run) == before
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert (found["suite"], found["base"]["num_answers"], len(found["shown"])) == ("heldout", 5, 3)


def test_only_missing_answers_are_generated(ask, tmp_path, monkeypatch):
    asked = []
    answers = generate.answers

    def counted(model, tokenizer, prompts, ends, **options):
        asked.append(len(prompts))
        return answers(model, tokenizer, prompts, ends, **options)

    monkeypatch.setattr(generate, "answers", counted)
    ask("--limit", 2)
    file = tmp_path / "out" / "tuned.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole.splitlines(keepends=True)[0])
    asked.clear()
    ask("--limit", 2)
    assert sum(asked) == 1
    assert file.read_bytes() == whole


def test_a_sample_may_grow(ask, monkeypatch):
    assert "| answers | 2 | 2 |" in ask("--sample", 2)
    assert "| answers | 3 | 3 |" in ask("--sample", 3)
    monkeypatch.setattr(generate, "load", None)
    assert "| answers | 2 | 2 |" in ask("--sample", 2)


def test_complete_answers_need_no_weights(ask, monkeypatch):
    first = ask("--limit", 1)
    monkeypatch.setattr(generate, "load", None)
    assert ask("--limit", 1).splitlines()[:-1] == first.splitlines()[:-1]


def test_by_default_it_lies_beside_the_runs(tiny_run):
    evaluate([str(tiny_run), "--limit", "1", "--max-tokens", "2"])
    place = tiny_run.parent.parent / "evaluations" / tiny_run.name / "heldout"
    assert {path.name for path in place.iterdir()} == {
        "base.jsonl",
        "tuned.jsonl",
        "evaluation.json",
        "evaluation.md",
    }


@pytest.fixture
def problem_file(tmp_path):
    row = {
        "task_id": "T/0",
        "prompt": "def one():\n    '''One.'''\n",
        "entry_point": "one",
        "test": "def check(one):\n    assert one() == 1\n",
        "canonical_solution": "    return 1\n",
    }
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return file


def test_the_evaluator_runs_the_answers_and_compares(ask, problem_file, tmp_path):
    ask("--suite", problem_file, "--generate-only")
    for side, number in (("base", 2), ("tuned", 1)):
        file = tmp_path / "out" / f"{side}.jsonl"
        sample = json.loads(file.read_text(encoding="utf-8"))
        sample["completion"] = f"```python\ndef one():\n    return {number}\n```"
        file.write_text(json.dumps(sample) + "\n", encoding="utf-8")
    found = json.loads(ask("--suite", problem_file, "--json"))
    rates = found["pass_at_1"]
    assert (rates["first"], rates["second"], rates["num_problems"]) == (0, 1, 1)
    assert found["tuned"]["parse_rate"] == 1


def test_scores_of_another_machine_are_read_back(ask, problem_file, tmp_path, capsys):
    ask("--suite", problem_file, "--generate-only")
    assert "python -m clients evaluate --compare" in capsys.readouterr().err
    scores = {"num_problems": 9, "first": 0.1, "second": 0.2, "difference": 0.1}
    (tmp_path / "scores.json").write_text(json.dumps(scores | {"low": 0.0, "high": 0.3}))
    table = ask("--suite", problem_file, "--scores", tmp_path / "scores.json")
    assert "| pass@1 on 9 problems | 10.0% | 20.0% |" in table
    assert "+10.0% (+0.0% to +30.0%)" in table


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--limit", "0"], EvaluationError, "--limit is 0; it must be 1 or more"),
        (["--scores", "absent.json"], EvaluationError, "absent.json cannot be read"),
        (["--max-tokens", "5"], EvaluationError, "begun with other settings"),
    ],
)
def test_a_wrong_wish_is_refused(ask, words, error, message):
    ask("--limit", "1")
    with pytest.raises(error, match=message):
        ask(*words)


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no finished run"):
        evaluate([str(tmp_path)])
