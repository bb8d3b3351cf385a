"""The published solutions of the published problems."""

import json

import pytest

from clients.__main__ import main


@pytest.mark.slow
def test_every_reference_solution_of_humaneval_passes(shared_data, cage, capsys):
    assert main(["evaluate", "--data", str(shared_data), "--reference", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["num_problems"], score["outcomes"]) == (164, {"passed": 164})


@pytest.mark.parametrize("suite", ["mbpp", "humaneval-infilling"])
def test_reference_solutions_of_the_other_suites_pass(shared_data, cage, capsys, suite):
    flags = ["--data", str(shared_data), "--suite", suite, "--limit", "12", "--reference"]
    assert main(["evaluate", *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcomes"] == {"passed": 12}
