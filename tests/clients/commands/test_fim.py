import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.__main__ import main
from clients.commands.fim import cut, parse_place, trimmed
from clients.errors import UsageError

SOURCE = "def add(a, b):\n    return \n\nprint(add(1, 2))\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "add.py"
    path.write_bytes(SOURCE.encode())
    return path


def test_the_gap_is_at_the_lines_end_and_only_the_filling_is_written(fake_server, source, capsys):
    assert main(["fim", f"{source}:2", "--base-url", fake_server.base_url]) == 0
    assert capsys.readouterr().out == "a + b"
    (body,) = fake_server.bodies("/infill")
    assert body["input_prefix"] == "def add(a, b):\n    return "
    assert body["input_suffix"] == "\n\nprint(add(1, 2))\n"
    assert body["n_predict"] == 64


def test_a_server_without_infill_is_asked_for_a_completion_with_suffix(fake_server, source, capsys):
    fake_server.serves_infill = False
    flags = ["--json", "--base-url", fake_server.base_url]
    assert main(["fim", f"{source}:2:5", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["route"] == "completions"
    (body,) = fake_server.bodies("/v1/completions")
    assert body["prompt"] == "def add(a, b):\n    "


def test_a_server_without_either_is_told_with_the_remedy(fake_server, source, capsys):
    fake_server.serves_infill = fake_server.serves_suffix = False
    assert main(["fim", f"{source}:2", "--base-url", fake_server.base_url]) == 2
    assert "does not fill in the middle" in capsys.readouterr().err


def test_neighbours_travel_along(fake_server, source, tmp_path):
    neighbour = tmp_path / "n.py"
    neighbour.write_text("x = 1\n")
    flags = ["--context", str(neighbour), "--base-url", fake_server.base_url]
    assert main(["fim", f"{source}:2", *flags]) == 0
    (body,) = fake_server.bodies("/infill")
    assert body["input_extra"] == [{"filename": "n.py", "text": "x = 1\n"}]


def test_what_the_file_imports_travels_along_within_the_budget(fake_server, tmp_path, capsys):
    (tmp_path / "lib.py").write_text("def tool(a):\n    return a\n")
    (tmp_path / "main.py").write_text("from lib import tool\n\ntool(\n")
    where = [f"{tmp_path / 'main.py'}:3", "--base-url", fake_server.base_url]
    assert main(["fim", *where]) == 0
    assert "neighbours, about 19 tokens: lib.py" in capsys.readouterr().err
    assert main(["fim", *where, "--context-tokens", "5"]) == 0
    assert "left out (--context-tokens 5): lib.py" in capsys.readouterr().err
    first, second = fake_server.bodies("/infill")
    assert first["input_extra"] == [{"filename": "lib.py", "text": "def tool(a):\n    ...\n"}]
    assert "input_extra" not in second
    assert main(["fim", *where, "--context-tokens", "-1"]) == 2


def test_neighbours_that_would_not_be_sent_are_refused(fake_server, source, capsys):
    flags = ["--route", "completions", "--base-url", fake_server.base_url]
    assert main(["fim", f"{source}:2", *flags, "--context", str(source)]) == 2
    assert "--context is sent to /infill only" in capsys.readouterr().err
    assert main(["fim", f"{source}:2", *flags]) == 0
    assert "suffix" in fake_server.bodies("/v1/completions")[0]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("add.py", "expected FILE:LINE"),
        ("no.py:1", "cannot read no.py"),
        ("add.py:0", "has 5 lines; there is no line 0"),
        ("add.py:9", "has 5 lines; there is no line 9"),
        ("add.py:2:13", "columns 1 to 12, not 13"),
    ],
)
def test_places_that_do_not_exist_are_named(source, monkeypatch, capsys, place, message):
    monkeypatch.chdir(source.parent)
    assert main(["fim", place]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path, capsys):
    path = tmp_path / "latin.py"
    path.write_bytes(b"x = '\xe9'\n")
    assert main(["fim", f"{path}:1"]) == 2
    assert "not UTF-8 (byte 5)" in capsys.readouterr().err


def test_a_windows_drive_is_part_of_the_file():
    file, line, column = parse_place(r"C:\x\a.py:3:4")
    assert (str(file), line, column) == (r"C:\x\a.py", 3, 4)


def test_the_cursor_may_stand_on_the_empty_last_line():
    assert cut("a\n", 2, None, where="f").suffix == ""
    with pytest.raises(UsageError):
        cut("a\n", 3, None, where="f")


def test_whole_lines_around_the_cursors_own_are_kept():
    gap = cut("1\n2\n3x\n4\n5\n", 3, 2, where="f")
    short = trimmed(gap, num_prefix_lines=1, num_suffix_lines=1)
    assert (short.prefix, short.suffix) == ("2\n3", "x\n4\n")
    none = trimmed(gap, num_prefix_lines=0, num_suffix_lines=0)
    assert (none.prefix, none.suffix) == ("3", "x\n")


@given(
    text=st.text("aé \n\r\x0c\u2028", max_size=20),
    draw=st.data(),
)
def test_no_byte_is_lost_at_any_cursor(text, draw):
    num_lines = len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    line = draw.draw(st.integers(1, num_lines))
    gap = cut(text, line, None, where="f")
    assert gap.prefix + gap.suffix == text
    assert gap.suffix == "" or gap.suffix[0] in "\r\n"
    assert trimmed(gap, num_prefix_lines=99, num_suffix_lines=99) == gap
