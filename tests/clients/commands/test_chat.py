import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients.__main__ import main
from clients.commands import chat
from clients.commands.conversation import Conversation, code_of, read_message
from clients.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[3]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(*given: str):
    waiting = iter(given)

    def read_line(_prompt: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    return read_line


@pytest.fixture
def typed(monkeypatch):
    """Let a user at a terminal type these lines, then leave with ^D."""

    def type_lines(*given: str) -> None:
        monkeypatch.setattr("sys.stdin", Terminal())
        monkeypatch.setattr("builtins.input", lines(*given))
        monkeypatch.setattr(chat, "_line_history", contextlib.nullcontext)

    return type_lines


def test_one_question_streams_the_answer_to_stdout_only(fake_server, capsys):
    assert main(["chat", "hi", "--system", "Be brief.", "--base-url", fake_server.base_url]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("".join(fake_server.words), "")
    (body,) = fake_server.bodies("/v1/chat/completions")
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert body["model"] == "tiny"


def test_standard_input_is_the_question_or_is_appended_when_asked(fake_server, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("piped\n"))
    assert main(["chat", "--base-url", fake_server.base_url]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("piped\n"))
    assert main(["chat", "explain", "--stdin", "--base-url", fake_server.base_url]) == 0
    asked = [b["messages"][-1]["content"] for b in fake_server.bodies("/v1/chat/completions")]
    assert asked == ["piped", "explain\n\npiped"]


def test_json_has_text_and_usage(fake_server, capsys):
    assert main(["chat", "hi", "--json", "--base-url", fake_server.base_url]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["choices"][0]["message"]["content"] == "".join(fake_server.words)
    assert answer["usage"]["completion_tokens"] == 4


def test_nothing_to_ask_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert main(["chat"]) == 2
    assert "nothing to ask" in capsys.readouterr().err


def test_a_talk_sends_earlier_turns_until_they_are_cleared(fake_server, typed):
    typed("one", "two", "/clear", "three", "/quit", "never sent")
    assert main(["chat", "--base-url", fake_server.base_url]) == 0
    sizes = [len(body["messages"]) for body in fake_server.bodies("/v1/chat/completions")]
    assert sizes == [1, 3, 1]


def test_a_talk_goes_on_after_mistakes_and_failures(fake_server, typed, capsys):
    fake_server.cuts_stream = True
    typed("/sing", "one", "two")
    assert main(["chat", "--base-url", fake_server.base_url]) == 0
    err = capsys.readouterr().err
    assert "there is no /sing" in err
    assert err.count("before the answer was complete") == 2
    sizes = [len(body["messages"]) for body in fake_server.bodies("/v1/chat/completions")]
    assert sizes == [1, 1]  # a failed turn is not remembered


def test_save_writes_the_code_blocks_and_never_over_a_file(tmp_path):
    talk = Conversation()
    talk.remember("q", "Here:\n```python\nx = 1\n```\nand\n```\ny = 2\n```\n")
    file = tmp_path / "out.py"
    assert "saved" in talk.command(f"/save {file}")
    assert file.read_text() == "x = 1\n\ny = 2\n"
    with pytest.raises(UsageError, match="exists"):
        talk.command(f"/save {file}")
    with pytest.raises(UsageError, match="cannot write"):
        talk.command(f"/save {tmp_path / 'no' / 'x.py'}")


def test_save_needs_a_name_and_an_answer():
    with pytest.raises(UsageError, match="file name"):
        Conversation().command("/save")
    with pytest.raises(UsageError, match="no answer"):
        Conversation().command("/save x.py")


def test_an_answer_without_code_is_saved_whole():
    assert code_of("just text\n") == "just text\n"


def test_system_sets_and_shows():
    talk = Conversation()
    assert talk.command("/system") == "system: (none)"
    assert talk.command("/system Be brief.") == "system: Be brief."
    assert talk.messages("x")[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["plain"], "plain"),
        (["a\\", "b\\", "c"], "a\nb\nc"),
        (['"""', "a", "", "b", '"""'], "a\n\nb"),
    ],
)
def test_messages_may_have_several_lines(given, expected):
    assert read_message(lines(*given)) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix")
def test_interrupting_an_answer_stops_it_and_the_talk_goes_on(fake_server, tmp_path):
    import pty

    fake_server.is_endless = True
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "clients", "chat", "--base-url", fake_server.base_url]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    ) as process:
        os.close(theirs)
        os.write(ours, b"one\n")
        while b"more more" not in process.stdout.read1():
            pass
        process.send_signal(signal.SIGINT)
        assert fake_server.client_left.wait(timeout=30)
        os.write(ours, b"/quit\n")
        _, err = process.communicate(timeout=60)
        os.close(ours)
    assert process.returncode == 0
    assert b"stopped; this turn is forgotten" in err
    assert b"Traceback" not in err


def test_lines_typed_are_there_again_in_the_next_talk(tmp_path, monkeypatch):
    readline = pytest.importorskip("readline", reason="this system edits no lines")
    monkeypatch.setattr("platformdirs.user_state_dir", lambda _name: str(tmp_path / "state"))
    readline.clear_history()
    with chat._line_history():
        readline.add_history("def typed(): ...")
    readline.clear_history()
    with chat._line_history():
        assert readline.get_history_item(1) == "def typed(): ..."
    readline.clear_history()
