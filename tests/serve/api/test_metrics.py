"""The figures under llama.cpp's names, which dashboards already read."""

from serve.api.metrics import render
from serve.engine.stats import EngineStats


def page(**figures):
    zeros = dict.fromkeys(EngineStats.__struct_fields__, 0) | {"slots": (), "requests_finished": {}}
    text = render(EngineStats(**zeros | figures))
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_decode_calls_and_their_sequences():
    figures = page(decode_batches=4, decode_rows=10, prefill_batches=3)
    assert float(figures["llamacpp:n_decode_total"]) == 7
    assert float(figures["llamacpp:n_busy_slots_per_decode"]) == 2.5


def test_before_the_first_request_every_figure_is_a_number():
    assert all(float(value) == 0 for value in page().values())
