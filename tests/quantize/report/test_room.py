"""What a server may take, and what a file needs in it, which the server's own plan agrees with."""

import re
import sys
from pathlib import Path

import httpx
import pytest

from quantize.config import RecommendConfig
from quantize.errors import ConfigError
from quantize.llama.gguf_header import read_header
from quantize.report.room import needed_bytes, room
from quantize.serve_process import ServerProcess


@pytest.fixture
def header(tiny_merged):
    return read_header(tiny_merged / "f16.gguf")


def test_the_default_context_is_the_servers_and_at_most_the_trained_one(header):
    assert room(RecommendConfig(), header).context == 2048
    assert room(RecommendConfig(context=512, ram="1G"), header).ram_bytes == 2**30


def test_a_context_beyond_the_trained_one_is_refused_with_both_numbers(header):
    with pytest.raises(ConfigError, match=r"100000 tokens .* f16.gguf was trained on 2048"):
        room(RecommendConfig(context=100_000), header)


@pytest.mark.parametrize(("key", "value"), [("min_tok_s", -5), ("context", -1)])
def test_numbers_that_mean_nothing_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"recommend.{key} is {value}"):
        RecommendConfig(**{key: value})


def test_what_was_measured_counts_where_it_is_more(header):
    planned = needed_bytes(header, 1024, None)
    figures = {"resident_bytes": planned, "resident_context_tokens": 1024}
    assert needed_bytes(header, 1024, figures) > planned
    assert needed_bytes(header, 1024, {**figures, "resident_bytes": 1}) == planned
    assert needed_bytes(header, 2048, None) > planned


@pytest.mark.weights
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_server_stays_within_what_is_said_to_be_needed(smollm2_gguf):
    context = 4096
    needed = needed_bytes(read_header(smollm2_gguf), context, None)
    arguments = ["--memory", str(needed), "--no-tune", "--no-disk-cache"]
    with ServerProcess(smollm2_gguf, context=context, arguments=arguments) as server:
        asked = {"prompt": "def f(x):\n    return x\n" * 40, "max_tokens": 4}
        httpx.post(f"{server.base_url}/completions", json=asked, timeout=60).raise_for_status()
        status = Path(f"/proc/{server.pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    assert peak <= needed
