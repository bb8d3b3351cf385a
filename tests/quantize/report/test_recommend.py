"""The chosen file fits, is close enough to the reference, and is the fastest of those."""

import pytest

from quantize.config import RecommendConfig
from quantize.errors import ConfigError
from quantize.report.recommend import Candidate, recommend
from quantize.report.room import Room
from quantize.space import parse_bytes

BOUNDS = RecommendConfig()
MIB = 1 << 20


def candidate(file, size, kld=0.0, speed=10.0, *, here=True, measured=True, rounds=()):
    figures = {
        "mean_kld_nats": kld,
        "perplexity_ratio": 1 + kld / 10,
        "decode_tokens_per_second": speed,
    }
    return Candidate(
        file=file,
        file_bytes=size * MIB,
        memory_bytes=(size + 50) * MIB,
        kv_bytes=40 * MIB,
        figures=figures if measured else None,
        measured_here=here and measured,
        decode_rounds=rounds,
    )


F16 = candidate("f16", 800, speed=5)
Q8 = candidate("q8", 400, 0.001, 9)
Q4 = candidate("q4", 200, 0.03, 14)
Q2 = candidate("q2", 100, 0.5, 20)


def choose(options, ram=2000 * MIB, bounds=BOUNDS):
    return recommend(options, Room(ram_bytes=ram, context=1024), bounds)


def test_the_fastest_within_the_bounds_is_chosen_with_its_figures():
    chosen = choose([F16, Q8, Q4, Q2])
    assert chosen.file == "q4"
    assert "14.0 tok/s" in chosen.reason
    assert "0.03" in chosen.reason


def test_a_hardly_faster_file_does_not_beat_a_smaller_one():
    assert choose([candidate("f16", 800, speed=10.4), candidate("q8", 400, 0.001, 10)]).file == "q8"


def test_only_a_difference_that_every_round_shows_decides():
    fast = candidate("big", 400, 0.001, 14, rounds=(10, 14, 18))
    slow = candidate("small", 200, 0.03, 11, rounds=(8, 11, 15))  # the machine got quicker
    assert choose([fast, slow]).file == "big"
    noisy = candidate("small", 200, 0.03, 11, rounds=(11, 8, 15))
    assert choose([fast, noisy]).file == "small"


def test_files_that_timing_cannot_tell_apart_are_named():
    slow = candidate("slow", 500, 0.001, 7)
    fast, small = candidate("big", 400, 0.001, 14), candidate("small", 200, 0.03, 13)
    reason = choose([slow, fast, small]).reason
    assert "13.0 tok/s here" in reason
    assert reason.endswith("within noise, or a tenth, of that of big (14.0 tok/s)")
    alone = choose([slow, candidate("small", 200, 0.03, 13)]).reason
    assert alone.startswith("the fastest within")
    assert "noise" not in alone


def test_a_floor_under_the_speed_is_kept_or_said():
    assert choose([F16, Q8, Q4], bounds=RecommendConfig(min_tok_s=8)).file == "q4"
    none = choose([F16, Q8], bounds=RecommendConfig(min_tok_s=30))
    assert none.file is None
    assert "reaches 30 tok/s: the fastest, q8, decodes 9.0 tok/s" in none.reason
    untimed = choose([candidate("a", 9, here=False)], bounds=RecommendConfig(min_tok_s=1))
    assert untimed.file is None
    assert "measure the run first" in untimed.reason


def test_the_front_holds_what_no_file_beats_in_bytes_and_distance():
    beaten = candidate("worse", 300, 0.2)
    assert choose([F16, Q8, Q4, Q2, beaten]).pareto_front == ("q2", "q4", "q8", "f16")


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
    assert "a context of at most 256 tokens or a quant type smaller than q2" in chosen.reason


def test_a_quantized_kv_cache_is_named_where_it_would_do():
    assert "a q8_0 KV cache" in choose([F16, Q2], ram=135 * MIB).reason


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
