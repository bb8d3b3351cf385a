import pytest

from clients.errors import (
    BadRequestError,
    ConnectionLostError,
    InternalServerError,
    OverloadedError,
    UnreachableError,
    UsageError,
)
from clients.policy import NO_RETRIES, RetryPolicy, Timeout

POLICY = RetryPolicy(max_retries=2, base_seconds=1.0, max_seconds=8.0)
UNREACHABLE = UnreachableError("http://x", "refused")


def busy(retry_after: float | None) -> OverloadedError:
    error = OverloadedError("busy", status=503)
    error.retry_after_seconds = retry_after
    return error


def delay(failure, *, num_tried=1, is_safe=False, draw=0.5, policy=POLICY):
    return policy.delay_seconds(failure, num_tried=num_tried, is_safe=is_safe, random=lambda: draw)


def test_any_request_is_repeated_when_no_connection_came_about():
    assert delay(UNREACHABLE) == 0.5


def test_jitter_spans_nothing_to_a_bound_that_doubles():
    assert delay(UNREACHABLE, draw=0.0) == 0.0
    assert delay(UNREACHABLE, num_tried=2, draw=1.0) == 2.0


def test_the_bound_stops_growing_at_its_limit():
    patient = RetryPolicy(max_retries=20, base_seconds=1.0, max_seconds=8.0)
    assert delay(UNREACHABLE, num_tried=15, draw=1.0, policy=patient) == 8.0


def test_retries_end():
    assert delay(UNREACHABLE, num_tried=3) is None
    assert delay(UNREACHABLE, policy=NO_RETRIES) is None


def test_retry_after_is_a_lower_bound():
    assert delay(busy(3.0)) == 3.5


def test_a_retry_after_beyond_the_limit_is_reported_instead_of_waited_for():
    assert delay(busy(60.0)) is None


def test_a_busy_server_without_retry_after_is_asked_again_only_for_safe_requests():
    assert delay(busy(None)) is None
    assert delay(busy(None), is_safe=True) == 0.5


@pytest.mark.parametrize(
    "failure", [ConnectionLostError("cut"), InternalServerError("oops", status=500)]
)
def test_a_request_that_may_have_been_worked_on_is_repeated_only_when_safe(failure):
    assert delay(failure) is None
    assert delay(failure, is_safe=True) == 0.5


def test_a_wrong_request_is_never_repeated():
    assert delay(BadRequestError("no", status=400), is_safe=True) is None


def test_limits_that_make_no_sense_are_refused_with_their_value():
    with pytest.raises(UsageError, match="read_seconds is 0"):
        Timeout(read_seconds=0)
    with pytest.raises(UsageError, match="max_retries is -1"):
        RetryPolicy(max_retries=-1)
