"""Files are timed in turns, an interrupted measurement goes on, and budgets are kept apart."""

import contextlib
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from quantize.config import MeasureConfig
from quantize.measure import measuring, speed_probe, timing
from quantize.measure.measurements import Book, Subject, read
from quantize.measure.quality import Judge, corpora
from quantize.measure.speed_probe import Sample, SpeedProbe
from quantize.progress import Steps

CONFIG = MeasureConfig(rounds=3, prefill_rows=(32,), decode_sequences=(1, 2))


def sample(speed: float) -> Sample:
    return Sample(
        load_seconds=0.5,
        resident_bytes=int(speed * 100),
        prefill={32: speed * 10},
        decode={1: speed, 2: speed * 1.5},
    )


@pytest.fixture
def subjects(tmp_path):
    return [Subject(path=tmp_path / f"{name}.gguf", sha256=name * 64) for name in "abc"]


@pytest.fixture
def timed(monkeypatch):
    """Answer probes from a list of speeds, and note which file was asked when."""
    asked = []

    def run(probe):
        asked.append(probe.path.rpartition("/")[2])
        return sample(10 + len(asked))

    monkeypatch.setattr(timing.speed_probe, "run", run)
    return asked


def test_files_take_turns_with_another_first_each_round(tmp_path, subjects, timed):
    book = Book(tmp_path, {"rounds": 3})
    timing.time_in_turns(book, subjects, CONFIG, 512, Steps())
    names = [each.removesuffix(".gguf") for each in timed]
    assert names == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    figures = book.entry(subjects[0]).figures
    assert figures["decode_tokens_per_second"] == 16
    assert figures["decode_tokens_per_second_low"] == 11
    assert figures["decode_tokens_per_second_high"] == 18
    assert figures["decode_tokens_per_second_by_rows"] == {"1": 16, "2": 24}
    assert figures["resident_bytes"] == 1800


def test_an_interrupted_timing_goes_on_where_it_was(tmp_path, subjects, timed, monkeypatch):
    wanted = timing.speed_probe.run

    def killed(probe):
        if len(timed) == 4:
            raise KeyboardInterrupt
        return wanted(probe)

    monkeypatch.setattr(timing.speed_probe, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        timing.time_in_turns(Book(tmp_path, {}), subjects, CONFIG, 512, Steps())
    monkeypatch.setattr(timing.speed_probe, "run", wanted)
    timing.time_in_turns(Book(tmp_path, {}), subjects, CONFIG, 512, Steps())
    assert len(timed) == 9
    assert {len(entry.samples) for entry in read(tmp_path)} == {3}


def test_a_full_measurement_answers_for_a_smaller_one_and_not_the_other_way(tmp_path, subjects):
    small = {"scored_tokens": 8, "text_tokens": 8, "rounds": 1, "full": False, "n_batch": 1}
    full = small | {"scored_tokens": 9, "full": True}
    Book(tmp_path, full).add(subjects[0], {"perplexity": 2.0})
    assert Book(tmp_path, small).entry(subjects[0]).figures == {"perplexity": 2.0}
    assert Book(tmp_path, small).entry(subjects[0]).settings["full"]
    assert Book(tmp_path, small | {"n_batch": 2}).entry(subjects[0]).figures == {}
    Book(tmp_path, small).add(subjects[1], {"perplexity": 2.0})
    assert Book(tmp_path, full).entry(subjects[1]).figures == {}


WORDS = {"perplexity": 2.0, "text_mean_kld_nats": 0.1, "bits_per_weight": 4.5}
RATES = {"decode_tokens_per_second": 9.0, "resident_bytes": 1, "load_seconds": 1.0}
OTHERS = {"kv_cache": {"q8_0": {}}, "pass_at_1": {"pass_at_1": 0.5}}


@pytest.mark.parametrize(
    ("changed", "kept", "num_samples"),
    [
        ({"context_tokens": 4096}, {*WORDS, "pass_at_1"}, 0),
        ({"decode_tokens": 9}, {*WORDS, "pass_at_1"}, 0),
        ({"texts": [{"sha256": "c"}]}, {*RATES, "pass_at_1"}, 1),
        ({"kv_types": [], "rounds": 9}, {*WORDS, *RATES, *OTHERS}, 1),
        ({"code": "other"}, {"pass_at_1"}, 0),
        ({"llama_cpp_commit": "other"}, set(), 0),
    ],
)
def test_other_settings_keep_what_does_not_depend_on_them(
    tmp_path, subjects, changed, kept, num_samples
):
    before = {
        "scored_tokens": 8,
        "full": False,
        "rounds": 3,
        "decode_tokens": 8,
        "kv_types": ["q8_0"],
        "texts": [{"sha256": "a"}],
        "context_tokens": 512,
        "code": "this",
        "llama_cpp_commit": "this",
    }
    Book(tmp_path, before).add(subjects[0], WORDS | RATES | OTHERS, [sample(1)])
    book = Book(tmp_path, before | changed)
    assert book.entry(subjects[0]).figures.keys() == kept
    assert len(book.entry(subjects[0]).samples) == num_samples
    book.add(subjects[0], {"perplexity": 3.0})
    (entry,) = read(tmp_path)
    assert entry.settings == before | changed
    assert entry.figures.keys() == kept | {"perplexity"}


class FakeJudge:
    """Answer for files without opening any, and note what was asked."""

    asked: ClassVar[list[str]] = []
    last = 99

    def __init__(self, *_arguments):
        pass

    def close(self):
        pass

    def of_reference(self, _draw):
        return self.of(Path("a.gguf"), _draw)

    def of(self, path, _draw, *, kv_type="f16"):
        if len(self.asked) == self.last:
            raise KeyboardInterrupt
        self.asked.append(f"{path.stem} {kv_type}")
        return dict.fromkeys(
            ("perplexity", "mean_kld_nats", "p99_kld_nats", "top1_agreement", "perplexity_ratio"),
            1.0,
        )


@pytest.fixture
def measured(tmp_path, subjects, timed, monkeypatch):
    """Measure three files with fakes around the book; a limit cuts it off."""
    monkeypatch.setattr(FakeJudge, "asked", [])
    monkeypatch.setattr(measuring, "Judge", FakeJudge)
    monkeypatch.setattr(measuring, "corpora", lambda *_: [])
    monkeypatch.setattr(measuring, "contents", lambda _: MeasureConfig())

    def run(context=512, last=99):
        monkeypatch.setattr(FakeJudge, "last", last)
        FakeJudge.asked.clear()
        timed.clear()
        with contextlib.suppress(KeyboardInterrupt):
            measuring.measure(tmp_path, subjects, None, CONFIG, Steps(), context=context)
        return list(FakeJudge.asked)

    return run


def test_an_interrupted_measurement_goes_on_after_the_words_it_has(measured, timed):
    assert measured(last=2) == ["a f16", "b f16"]
    assert not timed
    assert measured(last=2) == ["c f16", "a q8_0"]
    assert measured() == ["a q4_0"]
    assert len(timed) == 1 + 9  # with that cache, and three rounds of three files
    assert measured() == []
    assert not timed


def test_another_context_times_again_and_keeps_the_words(measured, timed):
    assert measured() == ["a f16", "b f16", "c f16", "a q8_0", "a q4_0"]
    assert measured(context=4096) == ["a q8_0", "a q4_0"]
    assert len(timed) == 2 + 9


def test_a_fresh_process_tells_load_time_memory_and_rates(tiny_merged):
    found = speed_probe.run(
        SpeedProbe(
            path=str(tiny_merged / "f16.gguf"),
            context=512,
            kv_type="q8_0",
            prefill_tokens=32,
            prefill_rows=(16,),
            decode_tokens=2,
            decode_sequences=(1, 2),
        )
    )
    assert found.load_seconds > 0
    assert found.resident_bytes is None or found.resident_bytes > 20_000_000
    assert found.prefill[16] > 0
    assert list(found.decode) == [1, 2]


def test_a_probe_that_fails_says_which_file_and_cache(tmp_path):
    from quantize.errors import LibraryError

    request = SpeedProbe(
        path=str(tmp_path / "none.gguf"),
        context=64,
        kv_type="q4_0",
        prefill_tokens=8,
        prefill_rows=(8,),
        decode_tokens=1,
        decode_sequences=(1,),
    )
    with pytest.raises(LibraryError, match=r"none.gguf with a q4_0 KV: llama.cpp cannot load"):
        speed_probe.run(request)


def test_a_text_too_large_to_keep_is_compared_beside_the_reference(
    tiny_merged, tiny_run, monkeypatch
):
    from contextlib import closing

    from quantize.llama.quant_types import table
    from quantize.llama.quantizer import TypeChoice, quantize_file
    from quantize.measure import quality
    from quantize.progress import no_draw

    model, other = tiny_merged / "f16.gguf", tiny_merged / "q4_0.gguf"
    quantize_file(model, other, TypeChoice(quant_type=table()["q4_0"]))
    config = msgspec.structs.replace(
        CONFIG, scored_tokens=24, text_tokens=24, max_example_tokens=64
    )
    found = corpora(model, tiny_run / "heldout.jsonl", config)
    assert [corpus.prefix for corpus in found] == ["", "text_"]
    with closing(Judge(model, found, config)) as judge:
        kept = judge.of_reference(no_draw), judge.of(other, no_draw)
    monkeypatch.setattr(quality, "_STORED_BYTES", 0)
    with closing(Judge(model, found, config)) as judge:
        beside = judge.of_reference(no_draw), judge.of(other, no_draw)
    assert beside[0] == pytest.approx(kept[0], nan_ok=True)
    assert beside[1] == pytest.approx(kept[1])
    assert kept[1]["text_mean_kld_nats"] > 0
