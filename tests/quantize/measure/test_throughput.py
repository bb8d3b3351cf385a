"""Rates are tokens over the time of their own calls; one slow decode step does not show."""

import pytest

from quantize.measure.throughput import measure_throughput


class FakeSession:
    """Costs a second a call plus a tenth a row; the slow steps cost a hundred."""

    def __init__(self, slow_steps=()):
        self.now = 0.0
        self.n_past = 0
        self.num_steps = 0
        self.slow_steps = slow_steps

    def tokenize(self, text, *, parse_special, add_special):
        return list(text.encode())

    def reset(self):
        self.n_past = 0

    def last_logits(self, tokens):
        self.n_past += len(tokens)
        self.now += 1 + 0.1 * len(tokens)

    def fork(self):
        self.num_steps = 0

    def step(self, token_id, num_sequences):
        self.n_past += 1
        self.num_steps += 1
        self.now += 100 if self.num_steps in self.slow_steps else 1 + 0.1 * num_sequences

    def truncate(self, length):
        self.n_past = length


def measure(session):
    return measure_throughput(
        session,
        prefill_tokens=40,
        prefill_rows=(10, 20),
        decode_tokens=5,
        decode_sequences=(1, 4),
        clock=lambda: session.now,
    )


def test_rates_count_all_rows_and_the_time_of_all_calls():
    speed = measure(FakeSession())
    assert speed.prefill == {10: pytest.approx(40 / 8), 20: pytest.approx(40 / 6)}
    assert speed.decode == {1: pytest.approx(1 / 1.1), 4: pytest.approx(4 / 1.4)}


def test_a_busy_moment_does_not_change_the_decode_rate():
    even = measure(FakeSession()).decode
    assert measure(FakeSession(slow_steps=(2, 4))).decode == pytest.approx(even)


def test_every_decode_begins_where_the_prompt_ended():
    session = FakeSession()
    measure(session)
    assert session.n_past == 40
