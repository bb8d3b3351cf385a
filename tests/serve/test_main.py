"""`python -m serve` as a process: exit codes, one line for the user, clean stops."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest


def run(*arguments, home, **environment):
    variables = os.environ | {"EDGESMITH_HOME": str(home)} | environment
    return subprocess.run(
        [sys.executable, "-m", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=variables,
    )


def refused(process) -> str:
    """Return the one line; there is no traceback."""
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    line = process.stderr.strip().splitlines()[-1]
    assert line.startswith("serve: ")
    return line


def test_help_shows_examples(tmp_path):
    process = run("--help", home=tmp_path)
    assert process.returncode == 0
    assert "examples:" in process.stdout


def test_a_port_in_use_is_found_before_a_model_is_looked_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(run("--port", port, home=tmp_path))
    assert f"port {port}" in line
    assert "--port" in line


def test_no_run_says_what_to_do(tmp_path):
    assert "python -m quantize" in refused(run("--port", 0, home=tmp_path))


def test_an_unknown_setting_gets_a_suggestion(tmp_path):
    line = refused(run("--set", "engine.slot=2", home=tmp_path))
    assert "did you mean engine.slots?" in line


def test_a_public_bind_without_a_key_is_refused(tmp_path):
    arguments = ("--host", "0.0.0.0", "--port", 0)
    assert "API key" in refused(run(*arguments, home=tmp_path, EDGESMITH_API_KEY=""))
    open_door = (*arguments, "--set", "access.allow_public_without_key=true")
    assert "no complete quantize run" in refused(run(*open_door, home=tmp_path))
    assert "no complete quantize run" in refused(
        run(*arguments, home=tmp_path, EDGESMITH_API_KEY="k")
    )


def test_an_empty_key_file_is_refused(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# none yet\n\n")
    assert "no API key" in refused(run("--api-key-file", keys, home=tmp_path))


@pytest.mark.parametrize("content", [b"not a model", b"GGUF\x03\x00\x00\x00"])
def test_a_file_that_is_no_whole_gguf_is_named(tmp_path, content):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert "bad.gguf" in refused(run("--model", path, "--port", 0, home=tmp_path))


class Server:
    """A server process; `port` is known once it listens."""

    def __init__(self, model, *arguments):
        command = [sys.executable, "-m", "serve", "--model", str(model), "--port", "0", "--no-tune"]
        command += ["--no-disk-cache", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening on http://127.0.0.1:(\d+)/v1 \(model ", line):
                self.port = int(found[1])
                return
        raise AssertionError("".join(self.lines))

    def stop(self, number):
        self.process.send_signal(number)
        with self.process:
            rest = self.process.stderr.read()
        return self.process.returncode, rest


@pytest.mark.weights
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_long_prefill_stops_the_server_cleanly(smollm2_gguf, number):
    server = Server(smollm2_gguf, "--context-length", "4096", "--slots", "1")
    url = f"http://127.0.0.1:{server.port}"
    body = {"prompt": "x y " * 1900, "max_tokens": 4, "stream": True}
    started = threading.Event()

    def read():
        try:
            with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
                started.set()
                for _ in response.iter_raw():
                    pass
        except httpx.TransportError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(60)
    code, rest = server.stop(number)
    reader.join(30)
    assert code == 0
    assert "Traceback" not in rest
    assert rest.strip().endswith("stopped")
