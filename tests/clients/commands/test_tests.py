import json
from pathlib import Path

import pytest

from clients.__main__ import main
from clients.commands.tests import excerpt, module_name
from clients.errors import UsageError

SOURCE = """import math
from os import path


class Circle:
    @property
    def area(self):
        return math.pi

    def grow(self):
        pass


@staticmethod
def half(x):
    return x / 2


def other():
    pass
"""
WRITTEN = "from shape import half\n\n\ndef test_half():\n    assert half(2) == 1\n"


@pytest.fixture
def write(fake_server, tmp_path, monkeypatch):
    (tmp_path / "shape.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    fake_server.words = ["```python\n", WRITTEN, "```\n"]
    return lambda *flags: main(["tests", *flags, "--base-url", fake_server.base_url])


def asked(fake_server) -> str:
    return fake_server.bodies("/v1/chat/completions")[-1]["messages"][1]["content"]


def test_tests_are_shown_and_no_file_is_written(write, fake_server, tmp_path, capsys):
    assert write("shape.py") == 0
    assert capsys.readouterr().out == WRITTEN
    assert SOURCE in asked(fake_server)
    assert [path.name for path in tmp_path.iterdir()] == ["shape.py"]


def test_one_function_goes_with_the_imports_and_without_its_neighbours(write, fake_server):
    assert write("shape.py:half") == 0
    text = asked(fake_server)
    assert "import math" in text
    assert "@staticmethod\ndef half(x):" in text
    assert "other" not in text
    assert text.endswith("Write tests for `half`.")


def test_output_is_written_where_nothing_lies(write, tmp_path, capsys):
    assert write("shape.py:half", "--output", "test_shape.py", "--json") == 0
    assert (tmp_path / "test_shape.py").read_text() == WRITTEN
    found = json.loads(capsys.readouterr().out)
    assert (found["written_to"], found["backup"]) == ("test_shape.py", None)


def test_an_existing_file_stays_unless_replacing_it_is_consented_to(write, tmp_path, capsys):
    mine = tmp_path / "test_shape.py"
    mine.write_text("# mine\n")
    assert write("shape.py", "--output", "test_shape.py") == 0
    assert mine.read_text() == "# mine\n"
    assert "stays as it is" in capsys.readouterr().err
    assert write("shape.py", "--output", "test_shape.py", "--yes") == 0
    assert mine.read_text() == WRITTEN
    assert (tmp_path / "test_shape.py.bak").read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["```python\ndef test_x(:\n```\n"], "are no Python (line 1"),
        (["```python\ndef test_x():\n"], "no end"),
        (["I cannot."], "no code block"),
    ],
)
def test_an_answer_that_is_no_test_file_is_never_written(
    write, fake_server, capsys, words, message
):
    fake_server.words = words
    assert write("shape.py", "--output", "test_shape.py") == 1
    assert message in capsys.readouterr().err
    assert not Path("test_shape.py").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["no.py"], "cannot read no.py"),
        (["shape.py:third"], "defines no 'third'; looking for 'third', found: Circle, half, other"),
        (["shape.py:Circle.x"], "found: area, grow"),
        (["shape.py", "--output", "no/test.py"], "no folder no"),
    ],
)
def test_what_is_not_there_is_named_before_asking(write, fake_server, capsys, flags, message):
    assert write(*flags) == 2
    assert message in capsys.readouterr().err
    assert fake_server.requests == []


def test_a_method_comes_with_its_decorators():
    assert excerpt(SOURCE, "Circle.area", where="x").endswith(
        "    @property\n    def area(self):\n        return math.pi"
    )


def test_a_module_that_does_not_parse_is_named_with_the_line():
    with pytest.raises(UsageError, match=r"shape\.py, line 2"):
        excerpt("x = 1\ndef (:\n", "x", where="shape.py")


def test_the_modules_name_counts_the_packages_above_it(tmp_path):
    package = tmp_path / "shop" / "cart"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "item.py").touch()
    assert module_name(package / "item.py") == "shop.cart.item"
    assert module_name(package / "__init__.py") == "shop.cart"
    assert module_name(tmp_path / "loose.py") == "loose"
