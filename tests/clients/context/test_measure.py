import json

import pytest

from clients.context import measure


@pytest.fixture
def sources(repository):
    repository.write("lib.py", "def tool(a, b):\n    return a\n")
    text = "from lib import tool\n\né = tool(1, b=2)\nprint(tool(\n    1, 2))\n"
    repository.write("main.py", text)
    return repository.root


def run(fake_server, capsys, *arguments: str) -> list[dict]:
    assert measure.main([*arguments, "--base-url", fake_server.base_url]) == 0
    return json.loads(capsys.readouterr().out)


def test_arguments_of_imported_functions_are_cut_out(sources):
    (gap,) = measure.gaps(sources, limit=9, seed=0)
    assert gap.prefix.endswith("é = tool(")
    assert (gap.wanted, gap.suffix[:1]) == ("1, b=2", ")")


@pytest.mark.parametrize(
    ("line", "is_exact"),
    [("1, b=2", True), ("1, b=2)", True), ("1, b=2, c=3", False), ("1", False), ("", False)],
)
def test_an_answer_may_end_at_the_gap_or_go_on_as_the_suffix_does(line, is_exact, tmp_path):
    gap = measure.Gap(file=tmp_path, prefix="tool(", wanted="1, b=2", suffix=")\nprint(1)")
    assert measure.fills(gap, line) is is_exact


def test_both_ways_are_asked_and_counted(sources, fake_server, capsys):
    arms = run(fake_server, capsys, "calls", "--folder", str(sources))
    assert [arm["num_requests"] for arm in arms] == [1, 1]
    without, together = fake_server.bodies("/infill")
    assert "input_extra" not in without
    assert [each["filename"] for each in together["input_extra"]] == ["lib.py"]


def test_a_session_is_replayed_with_more_neighbours_as_it_goes(sources, fake_server, capsys):
    (sources / "main.py").write_text("from lib import tool\nimport more\n")
    (sources / "more.py").write_text("def more():\n    pass\n")
    arms = run(fake_server, capsys, "order", "--file", str(sources / "main.py"), "--limit", "6")
    assert [arm["num_requests"] for arm in arms] == [6, 6]
    sent = [[e["filename"] for e in body["input_extra"]] for body in fake_server.bodies("/infill")]
    assert (sent[0], sent[5]) == (["lib.py"], ["lib.py", "more.py"])
    assert (sent[6], sent[11]) == (["lib.py"], ["more.py", "lib.py"])


def test_infilling_is_asked_alone_and_beside_the_code_of_other_problems(
    tmp_path, fake_server, capsys
):
    rows = [
        {
            "task_id": f"SingleLine/{name}",
            "entry_point": name,
            "prompt": f"def {name}(a):\n",
            "suffix": "\n",
            "canonical_solution": "    return a",
            "test": "def check(f): pass",
        }
        for name in ("one", "two")
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "HumanEval-SingleLineInfilling.jsonl").write_text(text)
    arms = run(fake_server, capsys, "infilling", "--data", str(tmp_path), "--limit", "1")
    assert [arm["name"] for arm in arms] == ["alone", "with 1 files open"]
    alone, beside = fake_server.bodies("/infill")
    assert "input_extra" not in alone
    (other,) = beside["input_extra"]
    asked = "one" if "def one" in alone["input_prefix"] + alone.get("prompt", "") else "two"
    assert other["filename"] == ("two.py" if asked == "one" else "one.py")
    assert "return a" in other["text"]


@pytest.mark.parametrize("arguments", [["order"], ["calls", "--limit", "0"]])
def test_what_makes_no_sense_is_refused(arguments, capsys):
    assert measure.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
