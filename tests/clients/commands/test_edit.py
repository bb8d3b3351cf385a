import json

import pytest

from clients.__main__ import main
from clients.commands import edit
from clients.errors import UsageError

BEFORE = b"def add(a, b):\r\n    return a - b\r\n"
AFTER = b"def add(a, b):\r\n    return a + b\r\n"


@pytest.fixture
def file(tmp_path, fake_server):
    path = tmp_path / "add.py"
    path.write_bytes(BEFORE)
    fake_server.words = ["```python\n", "def add(a, b):\n    return a + b\n", "```\n"]
    return path


def run(file, fake_server, *flags: str) -> int:
    return main(["edit", str(file), "fix it", "--base-url", fake_server.base_url, *flags])


def test_consent_applies_the_edit_and_keeps_the_former_content(file, fake_server, capsys):
    file.chmod(0o755)
    assert run(file, fake_server, "--yes") == 0
    assert file.read_bytes() == AFTER
    assert (file.parent / "add.py.bak").read_bytes() == BEFORE
    assert file.stat().st_mode & 0o777 == 0o755
    assert "-    return a - b" in capsys.readouterr().out


def test_the_former_text_is_sent_as_the_prediction(file, fake_server):
    assert run(file, fake_server, "--diff") == 0
    (body,) = fake_server.bodies("/v1/chat/completions")
    assert body["prediction"] == {"type": "content", "content": BEFORE.decode()}


def test_neighbours_come_first_and_the_instruction_last(file, fake_server):
    (file.parent / "lib.py").write_text("def tool(a):\n    return a\n")
    file.write_bytes(b"from lib import tool\n" + BEFORE)
    assert run(file, fake_server, "--diff") == 0
    assert main(["edit", str(file), "another", "--diff", "--base-url", fake_server.base_url]) == 0
    first, second = (
        body["messages"][1]["content"] for body in fake_server.bodies("/v1/chat/completions")
    )
    assert first.startswith("lib.py, for reference only:\n```\ndef tool(a):\n    ...\n```")
    assert first.removesuffix("fix it") == second.removesuffix("another")


@pytest.mark.parametrize("flags", [("--diff",), ()])
def test_without_consent_nothing_is_written(file, fake_server, flags):
    assert run(file, fake_server, *flags) == 0
    assert file.read_bytes() == BEFORE
    assert list(file.parent.iterdir()) == [file]


def test_json_tells_what_came_of_it(file, fake_server, capsys):
    assert run(file, fake_server, "--yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_applied"]
    assert found["diff"].startswith("--- a/add.py")


def test_an_answer_cut_short_is_never_applied(file, fake_server, capsys):
    fake_server.words = fake_server.words[:2]
    assert run(file, fake_server, "--yes") == 1
    assert file.read_bytes() == BEFORE
    assert "nothing was changed" in capsys.readouterr().err


def test_a_file_that_changed_meanwhile_is_left_alone(file):
    file.write_bytes(b"someone else's\n")
    with pytest.raises(UsageError, match="changed meanwhile"):
        edit.replace(file, BEFORE, AFTER)
    assert file.read_bytes() == b"someone else's\n"


def test_older_backups_are_kept(file):
    for number in range(3):
        edit.replace(file, file.read_bytes(), b"%d\n" % number)
    names = sorted(path.name for path in file.parent.iterdir())
    assert names == ["add.py", "add.py.bak", "add.py.bak2", "add.py.bak3"]


def test_a_link_stays_a_link(file, fake_server):
    link = file.parent / "link.py"
    link.symlink_to(file)
    assert run(link, fake_server, "--yes") == 0
    assert link.is_symlink()
    assert file.read_bytes() == AFTER


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x\0\n\0", "a zero at byte 1"), (b"\n", "is empty"), (None, "cannot read")],
)
def test_files_that_cannot_be_edited_are_refused_before_asking(
    tmp_path, fake_server, capsys, content, message
):
    path = tmp_path / "x.py"
    if content is not None:
        path.write_bytes(content)
    assert run(path, fake_server) == 2
    assert message in capsys.readouterr().err
    assert fake_server.requests == []


MIXED = b"# caf\xe9 \xc3\xa9\r\n" + BEFORE + b"# na\xefve\n"


def test_mixed_encodings_and_line_ends_are_kept(file, fake_server, capsys):
    file.write_bytes(MIXED)
    edited = "# caf\ufffd é\ndef add(a, b):\n    return a + b\n# na\ufffdve\n"
    fake_server.words = ["```python\n", edited, "```\n"]
    assert run(file, fake_server, "--yes", "--json") == 0
    assert file.read_bytes() == MIXED.replace(BEFORE, AFTER)
    assert "-    return a - b" in json.loads(capsys.readouterr().out)["diff"]
    (body,) = fake_server.bodies("/v1/chat/completions")
    assert body["prediction"]["content"].startswith("# caf\ufffd é\r\n")


def test_an_edit_that_would_lose_bytes_is_never_applied(file, fake_server, capsys):
    file.write_bytes(MIXED)
    fake_server.words = ["```python\n", "# my caf\ufffd é\n", "```\n"]
    assert run(file, fake_server, "--yes") == 1
    assert file.read_bytes() == MIXED
    assert "they would be lost" in capsys.readouterr().err
