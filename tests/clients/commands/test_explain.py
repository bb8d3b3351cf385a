import io
import json

import pytest

from clients.__main__ import main

SOURCE = "".join(f"line_{n} = {n}\n" for n in range(1, 201))


@pytest.fixture
def explain(fake_server, tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)

    def run(*flags: str) -> tuple[int, str]:
        status = main(["explain", *flags, "--base-url", fake_server.base_url])
        bodies = fake_server.bodies("/v1/chat/completions")
        return status, bodies[-1]["messages"][1]["content"] if bodies else ""

    return run


def test_a_file_is_explained_to_stdout(explain, fake_server, capsys):
    status, asked = explain("code.py")
    assert status == 0
    assert SOURCE in asked
    assert capsys.readouterr().out == "".join(fake_server.words)


def test_a_range_goes_with_some_lines_around_it(explain):
    _, asked = explain("code.py:100-101", "--question", "Why?")
    assert asked.count("line_100 ") == 2
    assert "line_60 " in asked
    assert "line_59 " not in asked
    assert "line_142 " not in asked
    assert asked.endswith("Why?")


def test_standard_input_is_explained(explain, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("```\nfenced\n```\n"))
    _, asked = explain()
    assert "````\n```\nfenced" in asked


def test_json_is_the_whole_answer(explain, capsys):
    assert explain("code.py:3", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out)["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no.py", "cannot read no.py"),
        ("code.py:0", "lines 1 to 200"),
        ("code.py:5-4", "not 5 to 4"),
        ("code.py:1-201", "lines 1 to 200"),
    ],
)
def test_places_that_do_not_exist_are_named(explain, fake_server, capsys, place, message):
    assert explain(place)[0] == 2
    assert message in capsys.readouterr().err
    assert fake_server.requests == []


def test_nothing_to_explain_is_refused(explain, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert explain()[0] == 2
    assert "nothing to explain" in capsys.readouterr().err
