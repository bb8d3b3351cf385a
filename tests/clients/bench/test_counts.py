import pytest

from clients.bench.counts import count
from clients.wire import Timings, TokenDetails, Usage

USAGE = Usage(prompt_tokens=10, completion_tokens=3)


@pytest.mark.parametrize(
    ("usage", "timings", "expected"),
    [
        (None, None, (None, None, None)),
        (USAGE, None, (3, 10, None)),
        (USAGE, Timings(prompt_n=4, predicted_n=9), (3, 10, 4)),
        (None, Timings(prompt_n=4, predicted_n=9), (9, None, 4)),
    ],
)
def test_what_a_server_does_not_say_is_not_guessed(usage, timings, expected):
    found = count(usage, timings)
    assert (found.num_tokens, found.num_prompt_tokens, found.num_read_tokens) == expected


def test_cached_tokens_were_not_read_whatever_the_timings_say():
    details = TokenDetails(cached_tokens=8)
    usage = Usage(prompt_tokens=10, completion_tokens=3, prompt_tokens_details=details)
    assert count(usage, Timings(prompt_n=10)).num_read_tokens == 2
