import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.bench.load import Measured
from clients.bench.summary import Bound, percentile, summarize

BOUND = Bound(first_token_seconds=1.0, inter_token_seconds=0.1)


def answer(*pieces: float, label: str = "all", error: str | None = None) -> Measured:
    return Measured(
        label=label,
        total_seconds=pieces[-1] if pieces else 0.5,
        piece_seconds=pieces,
        num_tokens=len(pieces),
        error=error,
    )


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([50, 90, 99]))
def test_a_percentile_is_a_value_that_enough_others_do_not_exceed(values, percent):
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9


def test_times_are_taken_between_pieces_and_rates_over_the_whole_run():
    (group,) = summarize([answer(0.5, 0.6, 0.8), answer(1.5, 1.6, 1.7)], 4.0, BOUND)
    assert group.first_token_seconds.p50 == 0.5
    assert group.first_token_seconds.p99 == 1.5
    assert group.inter_token_seconds.p99 == pytest.approx(0.2)
    assert (group.tokens_per_second, group.requests_per_second) == (1.5, 0.5)


def test_goodput_counts_answers_within_both_bounds():
    late_start, slow, good = answer(1.1, 1.15), answer(0.5, 0.9), answer(0.5, 0.55)
    (group,) = summarize([late_start, slow, good], 1.0, BOUND)
    assert group.goodput_per_second == 1.0


def test_failures_are_counted_by_kind_and_spoil_no_time():
    failed = answer(error="OverloadedError")
    (group,) = summarize([failed, failed, answer(0.5)], 1.0, BOUND)
    assert group.errors == {"OverloadedError": 2}
    assert (group.num_requests, group.num_answered) == (3, 1)
    assert group.total_seconds.p50 == 0.5


def test_groups_are_summarized_apart_and_together():
    groups = summarize([answer(0.1, label="a"), answer(0.2, label="b")], 1.0, BOUND)
    assert [group.label for group in groups] == ["a", "b", "all"]


def test_nothing_answered_leaves_no_times():
    (group,) = summarize([answer(error="UnreachableError")], 1.0, BOUND)
    assert group.first_token_seconds is None
