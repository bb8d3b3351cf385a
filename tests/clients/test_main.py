"""Exit status, error lines and interrupts of the command line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients.__main__ import COMMANDS, main

REPOSITORY = Path(__file__).resolve().parents[2]


def test_an_unreachable_server_is_one_line_with_url_and_remedy(capsys):
    assert main(["chat", "hi", "--base-url", "http://127.0.0.1:9/v1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "http://127.0.0.1:9/v1" in err
    assert "python -m serve" in err
    assert err.count("\n") == 1


def test_a_wrong_key_is_a_mistake_of_the_caller(fake_server, capsys, monkeypatch):
    fake_server.api_key = "right"
    monkeypatch.setenv("EDGESMITH_API_KEY", "wrong")
    assert main(["models", "--base-url", fake_server.base_url]) == 2
    assert "invalid_api_key" in capsys.readouterr().err


def test_a_key_file_wins_over_the_environment(fake_server, tmp_path, monkeypatch):
    fake_server.api_key = "right"
    monkeypatch.setenv("EDGESMITH_API_KEY", "wrong")
    key = tmp_path / "key"
    key.write_text("right\n")
    flags = ["--base-url", fake_server.base_url, "--api-key-file", str(key)]
    assert main(["models", *flags]) == 0


@pytest.mark.parametrize("command", [["chat", "hi"], ["complete", "x"]])
def test_a_model_that_is_not_loaded_is_told_with_the_list(fake_server, capsys, command):
    fake_server.models = ["tiny", "coder-7b"]
    flags = ["--model", "coder-8b", "--base-url", fake_server.base_url]
    assert main([*command, *flags]) == 2
    assert capsys.readouterr().err == (
        "error: the server has no model 'coder-8b'; did you mean 'coder-7b'? "
        "it serves: tiny, coder-7b\n"
    )


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_key_file_that_holds_no_key_is_named(tmp_path, capsys, content):
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content)
    assert main(["models", "--api-key-file", str(key)]) == 2
    assert str(key) in capsys.readouterr().err


def test_a_server_that_fails_is_status_1(fake_server, capsys):
    fake_server.cuts_stream = True
    assert main(["complete", "x", "--base-url", fake_server.base_url]) == 1
    assert "before the answer was complete" in capsys.readouterr().err


def test_a_timeout_that_makes_no_sense_is_refused(capsys):
    assert main(["models", "--timeout", "0"]) == 2
    assert "must be above 0" in capsys.readouterr().err


def test_models_as_text_and_as_json(fake_server, capsys):
    assert main(["models", "--base-url", fake_server.base_url]) == 0
    assert capsys.readouterr().out == "tiny\t2048 tokens\n"
    assert main(["models", "--json", "--base-url", fake_server.base_url]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "tiny"


def test_a_reader_that_leaves_early_is_no_error(fake_server):
    fake_server.is_endless = True
    command = [sys.executable, "-m", "clients", "complete", "x", "--base-url", fake_server.base_url]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


def test_interrupting_leaves_cleanly_and_stops_the_server(fake_server):
    fake_server.is_endless = True
    command = [sys.executable, "-m", "clients", "complete", "x", "--base-url", fake_server.base_url]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(10)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert fake_server.client_left.wait(timeout=30)


def test_a_missing_library_names_the_extra_to_install():
    probe = (
        "import sys\n"
        "sys.modules['httpx'] = None\n"
        "from clients.__main__ import main\n"
        "raise SystemExit(main(['models']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        'error: clients needs httpx; install it with: pip install "edgesmith[clients]"\n'
    )


def run_apart(fake_server, command: str, stdin: bytes) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "clients", command, "--base-url", fake_server.base_url],
        cwd=REPOSITORY,
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )


def test_what_a_terminal_cannot_show_is_replaced(fake_server):
    fake_server.words = ["na\u00efve \U0001f600"]
    done = run_apart(fake_server, "complete", b"x")
    assert (done.returncode, done.stdout) == (0, b"na?ve ?")


def test_input_that_is_no_text_is_refused_with_the_place(fake_server):
    done = run_apart(fake_server, "chat", b"ab\xff")
    assert done.returncode == 2
    assert b"standard input is not ascii (byte 2)" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"python -m clients {command}" in out.partition("examples:")[2]
