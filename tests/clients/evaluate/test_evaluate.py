"""The command, from a fake server's answers to the score."""

import json

import pytest

from clients.__main__ import main
from clients.errors import UsageError
from clients.evaluate import samples
from clients.evaluate.samples import Sample

ROWS = [
    {
        "task_id": f"T/{number}",
        "prompt": f'def add{number}(a, b):\n    """Add."""\n',
        "entry_point": f"add{number}",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    }
    for number in range(3)
]


@pytest.fixture
def suite(tmp_path, cage):
    file = tmp_path / "suite.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.fixture
def evaluate(suite, tmp_path, fake_server, capsys):
    def run(*flags: str) -> tuple[int, dict | None, str]:
        where = ["--suite", str(suite), "--samples", str(tmp_path / "s.jsonl")]
        status = main(["evaluate", *where, "--base-url", fake_server.base_url, "--json", *flags])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    return run


def asked(fake_server) -> int:
    return len(fake_server.bodies("/v1/chat/completions"))


def test_answers_are_generated_run_and_scored(evaluate, fake_server, tmp_path):
    fake_server.words = ["```python\ndef add1(a, b):\n    return a + b\n```"]
    status, score, _ = evaluate()
    assert status == 0
    assert score["pass_at_k"] == {"1": pytest.approx(1 / 3)}
    assert score["outcomes"]["passed"] == 1
    assert score["sandbox"] == "namespaces"
    verdicts = samples.read(tmp_path / "s.results.jsonl", samples.Result)
    assert [v.task_id for v in verdicts if v.outcome == "passed"] == ["T/1"]


def test_an_interrupted_run_asks_only_for_what_is_missing(evaluate, fake_server, tmp_path):
    assert evaluate("--limit", "2")[0] == 0
    assert asked(fake_server) == 2
    file = tmp_path / "s.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(b"\n") + 20])  # the second line was cut short
    assert evaluate()[0] == 0
    assert asked(fake_server) == 4
    assert {item.task_id for item in samples.read(file, Sample)} == {"T/0", "T/1", "T/2"}


def test_samples_of_other_settings_are_not_mixed(evaluate):
    assert evaluate()[0] == 0
    status, _, err = evaluate("--max-tokens", "9")
    assert status == 2
    assert "other settings" in err


def test_several_samples_have_seeds_of_their_own(evaluate, fake_server):
    status, score, _ = evaluate("--n", "2", "--temperature", "0.8", "--k", "1,2,5", "--limit", "1")
    assert status == 0
    assert sorted(b["seed"] for b in fake_server.bodies("/v1/chat/completions")) == [0, 1]
    assert list(score["pass_at_k"]) == ["1", "2"]


def test_equal_samples_are_refused(evaluate):
    status, _, err = evaluate("--n", "2")
    assert status == 2
    assert "raise it" in err


def test_the_reference_passes_without_a_server(evaluate, fake_server):
    status, score, _ = evaluate("--reference")
    assert (status, score["pass_at_k"]) == (0, {"1": 1.0})
    assert fake_server.requests == []


def test_others_samples_can_be_scored(evaluate, tmp_path, fake_server):
    rows = [{"task_id": row["task_id"], "completion": "    return a + b\n"} for row in ROWS]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, score, _ = evaluate("--score-only")
    assert (status, score["pass_at_k"]) == (0, {"1": 1.0})
    assert fake_server.requests == []


def test_a_server_that_fails_leaves_what_came(evaluate, fake_server, tmp_path):
    fake_server.api_key = "right"
    status, _, err = evaluate()
    assert status == 2
    assert "wrong key" in err
    assert "Traceback" not in err


def test_two_results_are_compared(evaluate, fake_server, tmp_path, capsys):
    evaluate()
    worse = (tmp_path / "s.results.jsonl").rename(tmp_path / "worse.jsonl")
    fake_server.words = ["```python\ndef add1(a, b):\n    return a + b\n```"]
    (tmp_path / "s.jsonl").unlink()
    evaluate()
    assert main(["evaluate", "--compare", str(worse), str(tmp_path / "s.results.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == pytest.approx(1 / 3)


def test_a_line_that_is_no_sample_is_named(tmp_path):
    file = tmp_path / "s.jsonl"
    file.write_text('{"task_id": "a", "completion": "x"}\n{"task": 1}\n')
    with pytest.raises(UsageError, match="line 2"):
        samples.read(file, Sample)


def test_numbers_that_make_no_sense_are_refused(evaluate):
    status, _, err = evaluate("--limit", "0")
    assert status == 2
    assert "--limit is 0" in err


@pytest.fixture
def gaps(tmp_path):
    file = tmp_path / "gaps.jsonl"
    rows = [{**row, "suffix": "    return c\n"} for row in ROWS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_gaps_are_filled_by_a_suffix_where_the_server_lacks_infill(evaluate, gaps, fake_server):
    fake_server.serves_infill = False
    fake_server.words = ["    c = a + b\n"]
    status, score, _ = evaluate("--suite", str(gaps))
    assert status == 0
    assert score["pass_at_k"] == {"1": 1.0}
    bodies = fake_server.bodies("/v1/completions")
    assert {(body["prompt"], body["suffix"]) for body in bodies} == {
        (row["prompt"], "    return c\n") for row in ROWS
    }


def test_a_server_without_any_way_to_fill_gaps_is_told_with_the_remedy(evaluate, gaps, fake_server):
    fake_server.serves_infill = fake_server.serves_suffix = False
    status, _, err = evaluate("--suite", str(gaps))
    assert status == 2
    assert "takes no suffix" in err
