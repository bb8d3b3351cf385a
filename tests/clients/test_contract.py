"""The client against the project's own server, started as a command, on real weights."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients import AsyncClient, Client, errors
from clients.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.weights


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """Run the server on a free port; yield its base URL."""
    command = [
        sys.executable,
        "-m",
        "serve",
        "--model",
        str(model),
        "--port",
        "0",
        "--no-disk-cache",
    ]
    with subprocess.Popen(
        [*command, "--context-length", "1024", "--no-disk-cache"],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                break
        else:
            pytest.fail("the server did not start: " + "".join(lines))
        try:
            yield found[1]
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)


@pytest.fixture(scope="module")
def base_url(smollm2_gguf):
    with serving(smollm2_gguf) as url:
        yield url


@pytest.fixture(scope="module")
def client(base_url):
    with Client(base_url) as client:
        yield client


def test_the_model_and_its_context_are_listed(client):
    (model,) = client.models()
    assert model.context_length == 1024
    assert client.health().status == "ok"
    assert client.props().chat_template


def test_tokens_make_the_way_there_and_back(client):
    text = "def naïve(x):\n    return x"
    assert client.detokenize(client.tokenize(text)) == text


def test_the_template_shows_in_the_rendered_prompt(client):
    assert "<|im_start|>user\nhi<|im_end|>" in client.apply_template("hi")


def test_streamed_and_whole_answers_agree_with_usage(client):
    whole = client.chat("Count to three.", max_tokens=12, temperature=0.0)
    with client.stream_chat("Count to three.", max_tokens=12, temperature=0.0) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text == whole.text
    assert stream.finish_reason == whole.finish_reason
    assert stream.usage.completion_tokens == whole.usage.completion_tokens
    assert stream.usage.prompt_tokens == whole.usage.prompt_tokens


def test_completions_continue_the_prompt(client):
    answer = client.complete("def add(a, b):\n    return", max_tokens=4, temperature=0.0)
    assert answer.usage.completion_tokens <= 4
    assert answer.text


async def test_the_async_client_gets_the_same_text(base_url, client):
    async with AsyncClient(base_url) as other:
        answer = await other.complete("def add(a, b):", max_tokens=4, temperature=0.0)
    assert answer.text == client.complete("def add(a, b):", max_tokens=4, temperature=0.0).text


def test_a_prompt_beyond_the_context_is_told_with_both_numbers(client):
    with pytest.raises(errors.ContextLengthError) as caught:
        client.complete("word " * 3000, max_tokens=1)
    assert caught.value.num_prompt_tokens > 1024
    assert caught.value.context_length == 1024


def test_a_wrong_field_is_a_bad_request_with_a_request_id(client):
    with pytest.raises(errors.BadRequestError) as caught:
        client.chat("x", extra={"temperature": "hot"})
    assert caught.value.request_id


def test_a_model_that_cannot_fill_in_the_middle_says_so(client):
    with pytest.raises(errors.BadRequestError, match="fill-in-the-middle"):
        client.fim("def add(a, b):\n    return ", "\n", max_tokens=4)


def test_a_stream_that_is_closed_leaves_the_server_free(client):
    with client.stream_chat("Write a very long story.", max_tokens=900) as stream:
        next(iter(stream))
    assert client.complete("1, 2,", max_tokens=2, temperature=0.0).text


def test_the_doctor_finds_the_server_healthy(base_url, capsys):
    assert main(["doctor", "--json", "--requests", "1", "--base-url", base_url]) == 0
    diagnosis = json.loads(capsys.readouterr().out)
    assert diagnosis["is_healthy"]
    assert diagnosis["speed"]["tokens_per_second"] > 0


def test_a_code_model_fills_the_gap_of_a_file(qwen_coder_gguf, tmp_path, capsys):
    source = tmp_path / "largest.py"
    source.write_text(
        "def largest(values):\n    best = values[0]\n    for value in values:\n"
        "        \n    return best\n"
    )
    flags = ["--max-tokens", "24", "--temperature", "0"]
    with serving(qwen_coder_gguf) as url:
        assert main(["fim", f"{source}:4", *flags, "--base-url", url]) == 0
    filled = source.read_text().replace("        \n", f"        {capsys.readouterr().out}\n")
    space: dict = {}
    exec(compile(filled, "largest.py", "exec"), space)
    assert space["largest"]([3, 9, 4]) == 9
