import io
import sys

import pytest

from clients.__main__ import main
from clients.commands.terminal import consents, whole_blocks


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "consent"), [("y\n", True), ("Yes\n", True), ("\n", False)])
def test_consent_is_asked_for_at_a_terminal(monkeypatch, capsys, typed, consent):
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert consents("apply?", is_given=False) is consent
    assert capsys.readouterr().err == "apply? [y/N] "


def test_without_a_terminal_only_the_flag_consents(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert not consents("apply?", is_given=False)
    assert consents("apply?", is_given=True)


def test_an_explanation_is_laid_out_at_a_terminal(fake_server, monkeypatch, tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    fake_server.words = ["# Title\n", "\nIt is **bo", "ld**.\n\n```python\nx\n", "\ny\n```\n"]
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["explain", str(tmp_path / "a.py"), "--base-url", fake_server.base_url]) == 0
    text = screen.getvalue()
    assert [text.count(part) for part in ("Title", "It is", "**", "```")] == [1, 1, 0, 0]


def test_a_code_block_is_whole_only_at_its_end():
    assert whole_blocks("a\n\nb") == ("a\n\n", "b")
    assert whole_blocks("```\na\n\nb\n") == ("", "```\na\n\nb\n")
    assert whole_blocks("```\na\n\nb\n```\n\nc") == ("```\na\n\nb\n```\n\n", "c")
    assert whole_blocks("a\n ") == ("", "a\n ")
