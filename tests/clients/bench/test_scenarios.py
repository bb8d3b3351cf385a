import itertools
import json

import pytest

from clients.bench import scenarios
from clients.errors import UsageError


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_a_seed_always_gives_the_same_requests_and_another_others(name):
    assert scenarios.make(name, 5, 1) == scenarios.make(name, 5, 1)
    assert scenarios.make(name, 5, 1) != scenarios.make(name, 5, 2)


@pytest.mark.parametrize("name", ["chat", "long-prompt", "fim", "mixed"])
def test_requests_begin_differently_so_that_no_prefix_cache_helps(name):
    prompts = [ask.prompt for ask in scenarios.make(name, 20, 0)]
    assert len({prompt.partition("\n")[0][:40] for prompt in prompts}) == 20


def test_a_shared_prefix_is_shared_and_long():
    prompts = [ask.prompt for ask in scenarios.make("shared-prefix", 5, 0)]
    common = len([1 for letters in zip(*prompts, strict=False) if len(set(letters)) == 1])
    assert common > 2000
    assert len(set(prompts)) == 5


def test_mixed_load_is_one_long_to_three_short():
    labels = [ask.label for ask in scenarios.make("mixed", 8, 0)]
    assert labels == ["long", "short", "short", "short"] * 2


def test_poisson_gaps_have_the_rate_asked_for():
    times = scenarios.poisson_times(4001, 10.0, seed=3)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert times[0] == 0.0
    assert sum(gaps) / len(gaps) == pytest.approx(0.1, rel=0.1)
    assert min(gaps) < 0.01
    assert max(gaps) > 0.3


def test_a_recorded_session_comes_in_the_order_of_its_times(tmp_path):
    file = tmp_path / "session.jsonl"
    rows = [
        {"kind": "fim", "prompt": "b", "suffix": "c", "at_seconds": 2.0},
        {"kind": "fim", "prompt": "a", "cancel_after_seconds": 0.5},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [ask.prompt for ask in scenarios.recorded(file)] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"kind": "sing", "prompt": "a"}', "line 1"), ("\n", "holds no request")],
)
def test_a_file_that_is_no_session_is_named(tmp_path, content, message):
    file = tmp_path / "session.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        scenarios.recorded(file)
