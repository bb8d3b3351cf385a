"""The command kills, notices what an interrupted run left wrong, and passes what is sound."""

import sys

import pytest

from quantize.lab.killed_often import main

SOUND = """
import os, pathlib, time
run = pathlib.Path(os.environ["EDGESMITH_HOME"], "runs/quantize/one")
run.mkdir(parents=True, exist_ok=True)
for name in "abc":
    file = run / f"{name}.gguf"
    if not file.exists():
        time.sleep(0.05)
        file.with_suffix(".partial").write_text(name * 9)
        file.with_suffix(".partial").replace(file)
"""
CARELESS = SOUND.replace(
    'file.with_suffix(".partial").write_text(name * 9)',
    'file.touch(); time.sleep(0.3); file.with_suffix(".partial").write_text(name * 9)',
).replace("time.sleep(0.05)", "pass")


@pytest.mark.parametrize(("program", "status", "word"), [(SOUND, 0, "equal"), (CARELESS, 1, "NOT")])
def test_a_run_that_does_not_resume_to_the_same_bytes_is_told(capsys, program, status, word):
    command = [sys.executable, "-c", program]
    assert main(["--rounds", "2", "--seed", "5"], command) == status
    printed = capsys.readouterr().out
    assert word in printed
    assert "kills in 2 rounds" in printed


def test_a_command_that_fails_by_itself_is_told_with_its_words(capsys):
    assert main([], [sys.executable, "-c", "raise SystemExit('no such run')"]) == 2
    assert "no such run" in capsys.readouterr().err
