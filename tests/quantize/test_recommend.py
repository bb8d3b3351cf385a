"""The chosen file fits, is close enough to the reference, and is the fastest of those."""

import pytest

from quantize.config import RecommendConfig
from quantize.errors import ConfigError
from quantize.recommend import Candidate, parse_bytes, recommend

BOUNDS = RecommendConfig()
MIB = 1 << 20


def candidate(file, size, kld=0.0, speed=10.0, *, here=True, measured=True):
    figures = {
        "mean_kld_nats": kld,
        "perplexity_ratio": 1 + kld / 10,
        "decode_tokens_per_second": speed,
    }
    return Candidate(
        file=file,
        file_bytes=size * MIB,
        memory_bytes=(size + 50) * MIB,
        n_ctx_train=2048,
        figures=figures if measured else None,
        measured_here=here and measured,
    )


F16 = candidate("f16", 800, speed=5)
Q8 = candidate("q8", 400, 0.001, 9)
Q4 = candidate("q4", 200, 0.03, 14)
Q2 = candidate("q2", 100, 0.5, 20)


def choose(options, ram=2000 * MIB):
    return recommend(options, ram_bytes=ram, context=1024, bounds=BOUNDS)


def test_the_fastest_within_the_bounds_is_chosen_with_its_figures():
    chosen = choose([F16, Q8, Q4, Q2])
    assert chosen.file == "q4"
    assert "14.0 tok/s" in chosen.reason
    assert "0.03" in chosen.reason


def test_a_hardly_faster_file_does_not_beat_a_smaller_one():
    assert choose([candidate("f16", 800, speed=10.4), candidate("q8", 400, 0.001, 10)]).file == "q8"


def test_what_does_not_fit_is_not_chosen():
    assert choose([F16, Q8], ram=500 * MIB).file == "q8"


def test_when_none_is_within_the_bounds_the_closest_is_chosen_and_said():
    chosen = choose([F16, Q2, candidate("q3", 150, 0.2)], ram=300 * MIB)
    assert chosen.file == "q3"
    assert "closest" in chosen.reason


def test_when_nothing_fits_it_says_what_to_give_up():
    chosen = choose([F16, Q2], ram=120 * MIB)
    assert chosen.file is None
    assert "q2" in chosen.reason
    assert "150 MiB" in chosen.reason


def test_speed_measured_elsewhere_counts_for_nothing():
    chosen = choose([candidate("a", 300, 0.01, 99, here=False), candidate("b", 200, 0.01, 5)])
    assert chosen.file == "b"


def test_unmeasured_files_are_chosen_by_size():
    chosen = choose([candidate("big", 300, measured=False), candidate("small", 9, measured=False)])
    assert chosen.file == "big"
    assert "nothing was measured" in chosen.reason


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 << 30), ("700M", 700 << 20), ("1.5 GiB", 3 << 29), ("10", 10)]
)
def test_amounts_of_memory_are_read(text, size):
    assert parse_bytes(text) == size


def test_other_amounts_are_refused():
    with pytest.raises(ConfigError, match="examples: 4G"):
        parse_bytes("lots")
