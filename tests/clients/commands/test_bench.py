"""Servers side by side, from the command line, against fakes on real sockets."""

import itertools
import json

import pytest

from clients.__main__ import main
from clients.bench.registry import WORKLOADS


@pytest.fixture
def second_server(fake_server):
    server = type(fake_server)()
    yield server
    server.close()


@pytest.fixture
def side_by_side(fake_server, second_server, tmp_path, capsys):
    """Run the comparison of both fakes; return status and result."""
    for server in (fake_server, second_server):
        server.words = ["x "] * 12
        server.serves_infill = False

    def compare(*flags: str) -> tuple[int, dict]:
        sides = [
            "--compare",
            f"a={fake_server.base_url}",
            "--compare",
            f"b={second_server.root_url}",
        ]
        output = ["--output", str(tmp_path / "out"), "--prompt-tokens", "40", "--rounds", "2"]
        status = main(["bench", "--json", *sides, *output, *flags])
        return status, json.loads(capsys.readouterr().out)

    return compare


def test_every_scenario_is_measured_with_ratios_to_the_first(side_by_side):
    status, found = side_by_side()
    assert status == 0
    impossible = {"keystrokes", "restart"}  # no /infill here, and servers that others started
    assert {row["figure"]["scenario"] for row in found["rows"]} == {*WORKLOADS} - impossible
    for sample in found["samples"]:
        assert (sample["error"] is None) is (sample["scenario"] not in impossible)
    for row in found["rows"]:
        assert row["cells"]["a"]["ratio"] is None
        assert row["cells"]["b"]["num_rounds"] == 2
    assert found["settings"]["num_rounds"] == 2
    assert found["machine"]["num_cores"] >= 1


def test_both_get_the_same_requests_and_none_twice(side_by_side, fake_server, second_server):
    side_by_side("--only", "prefill", "--only", "decode-many")
    seen = [
        sorted(body["prompt"] for body in server.bodies("/v1/completions"))
        for server in (fake_server, second_server)
    ]
    sample = [prompt for prompt in seen[0] if ".sample" in prompt]
    assert len(sample) == 1
    assert [prompt for prompt in seen[0] if prompt not in sample] == seen[1]
    assert len(set(seen[1])) == len(seen[1])


def test_answers_are_greedy_but_for_those_drawn_by_a_seed(side_by_side, fake_server):
    side_by_side()
    bodies = fake_server.bodies("/v1/completions") + fake_server.bodies("/v1/chat/completions")
    assert {body["temperature"] for body in bodies if "seed" not in body} == {0.0}


def test_a_replayed_chat_grows_by_the_servers_own_answers(side_by_side, fake_server):
    side_by_side("--only", "chat-replay", "--rounds", "1")
    histories = [body["messages"] for body in fake_server.bodies("/v1/chat/completions")]
    for before, after in itertools.pairwise(histories):
        assert after[: len(before)] == before
        assert after[len(before)]["content"] == "x " * 12


def test_what_a_server_does_not_report_is_left_out_and_said(side_by_side, fake_server, tmp_path):
    fake_server.sends_usage = False
    _, found = side_by_side("--only", "chat-replay", "--only", "decode")
    cells = {row["figure"]["name"]: set(row["cells"]) for row in found["rows"]}
    assert cells == {
        "tokens_per_second": {"a", "b"},
        "prompt_tokens": {"b"},
        "first_token_p50_seconds": {"a", "b"},
    }
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "a, chat-replay: the server does not report prompt tokens" in text
    assert "b, chat-replay: the server does not report read tokens" in text
    assert "a, decode: the server does not report tokens; pieces of text were counted" in text


def test_the_way_of_small_requests_is_said(side_by_side, fake_server):
    fake_server.serves_infill = True
    _, found = side_by_side("--only", "mixed")
    assert "a: small requests by /infill" in found["notes"]
    assert any(note.startswith("b: small requests by /v1/completions") for note in found["notes"])


def test_a_server_that_fails_is_named_and_the_other_is_measured(
    side_by_side, second_server, tmp_path
):
    second_server.cuts_stream = True
    status, found = side_by_side("--only", "decode")
    (row,) = found["rows"]
    assert status == 0
    assert set(row["cells"]) == {"a"}
    assert "b, decode: failed (rounds: 2): ConnectionLostError" in (
        tmp_path / "out" / "results.md"
    ).read_text(encoding="utf-8")


def test_answers_too_short_to_time_are_a_failure(side_by_side, fake_server, second_server):
    fake_server.words = second_server.words = ["x"]
    status, found = side_by_side("--only", "decode")
    assert status == 1
    assert {sample["error"] for sample in found["samples"]} == {
        "the answer ended after 1 tokens, too few to time"
    }


def test_a_server_that_is_not_there_is_a_mistake_of_the_caller(tmp_path, capsys):
    flags = ["--compare", "a=http://127.0.0.1:9", "--output", str(tmp_path)]
    assert main(["bench", *flags]) == 2
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_which_server_refuses_is_said(fake_server, second_server, tmp_path, capsys):
    second_server.api_key = "right"
    flags = ["--compare", f"a={fake_server.root_url}", "--compare", f"b={second_server.root_url}"]
    assert main(["bench", *flags, "--output", str(tmp_path)]) == 2
    assert "error: b: wrong key" in capsys.readouterr().err


def test_a_scenario_named_twice_is_played_once(side_by_side):
    _, found = side_by_side("--only", "prefill", "--only", "prefill")
    assert len(found["samples"]) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compare", "a=http://x", "--users", "3"], "--users is for one server"),
        (["--compare", "a=http://x", "--base-url", "http://y"], "--base-url is for one server"),
        (["--rounds", "9"], "--rounds is for several"),
        (["--only", "decode"], "--only is for several"),
        (["--compare", "a=http://x", "--rounds", "0"], "--rounds is 0; it must be above 0"),
        (["--compare", "a=http://x", "--compare", "a=http://y"], "two servers are called a"),
        (["--compare", "http://x"], "is not NAME=URL"),
    ],
)
def test_flags_that_mean_nothing_together_are_refused(capsys, flags, message):
    assert main(["bench", *flags]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
