"""Measure the files of a run on this machine: what they hold, how good, how fast, how large.

Each figure is written as soon as it is known, so an interrupted measurement goes on where it was.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import MeasureConfig, to_dict
from quantize.digest import sha256_code
from quantize.errors import LibraryError
from quantize.llama.cpp_source import pin
from quantize.llama.inspect_gguf import contents
from quantize.measure import pass_at_1
from quantize.measure.measurements import Book, Measurement, Subject
from quantize.measure.quality import Corpus, Judge, corpora
from quantize.measure.timing import sample, time_in_turns
from quantize.progress import Steps
from quantize.run import say

_COMPARED = ("mean_kld_nats", "p99_kld_nats", "top1_agreement", "perplexity_ratio")

_MEASURES = ("quantize.measure.quality", "quantize.measure.timing", "quantize.measure.speed_probe")
"""These and all they import say what a figure means."""

_OWN_RECORD = ("text", "examples", "pass_at_1")
"""Settings that are recorded by what they came to, beside the figures."""


def measure(
    run: Path,
    subjects: Sequence[Subject],
    heldout: Path | None,
    config: MeasureConfig,
    steps: Steps,
    *,
    context: int,
) -> list[Measurement]:
    """Measure what is not known yet on this machine; return this machine's figures in order."""
    if config.pass_at_1.suite:
        pass_at_1.require_usable(config.pass_at_1)
    found = corpora(subjects[0].path, heldout, config)
    book = Book(run, _settings(config, found, subjects[0].sha256, context))
    _judge(book, subjects, found, config, steps)
    _compare_kv_types(book, subjects, found, config, steps)
    time_in_turns(book, subjects, config, context, steps)
    if config.pass_at_1.suite:
        serve = pass_at_1.served(context)
        pass_at_1.measure(book, subjects, config.pass_at_1, steps, serve=serve)
    return [book.entry(subject) for subject in subjects]


def _settings(
    config: MeasureConfig, found: Sequence[Corpus], reference_sha256: str, context: int
) -> dict[str, Any]:
    settings = {
        **{key: value for key, value in to_dict(config).items() if key not in _OWN_RECORD},
        "texts": [msgspec.to_builtins(corpus.ref) for corpus in found],
        "reference_sha256": reference_sha256,
        "context_tokens": context,
        "llama_cpp_commit": pin().llama_cpp_commit,
        "code": sha256_code(*_MEASURES),
    }
    as_read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    return as_read


def _judge(
    book: Book,
    subjects: Sequence[Subject],
    found: Sequence[Corpus],
    config: MeasureConfig,
    steps: Steps,
) -> None:
    waiting = [each for each in subjects if "perplexity" not in book.entry(each).figures]
    with contextlib.closing(Judge(subjects[0].path, found, config)) as judge:
        for subject in waiting:
            with steps.step(f"measure {subject.path.name}") as draw:
                if subject == subjects[0]:
                    figures = judge.of_reference(draw)
                else:
                    figures = judge.of(subject.path, draw)
            book.add(subject, to_dict(contents(subject.path)) | figures)


def _compare_kv_types(
    book: Book,
    subjects: Sequence[Subject],
    found: Sequence[Corpus],
    config: MeasureConfig,
    steps: Steps,
) -> None:
    """Compare KV cache types with f16: on the reference, whose weights add no loss; or on all."""
    chosen = subjects if config.full else subjects[:1]
    with contextlib.closing(Judge(subjects[0].path, found, config)) as judge:
        for subject in chosen:
            known = book.entry(subject).figures.get("kv_cache", {})
            for kv_type in config.kv_types:
                if kv_type in known:
                    continue
                with steps.step(f"measure {subject.path.name} with a {kv_type} KV cache") as draw:
                    try:
                        quality = judge.of(subject.path, draw, kv_type=kv_type)
                        timed = sample(
                            subject.path,
                            config,
                            book.settings["context_tokens"],
                            kv_type=kv_type,
                            brief=True,
                        )
                    except LibraryError as error:
                        say(f"note: {error}")
                        known = known | {kv_type: {"refused": str(error)}}
                    else:
                        known = known | {kv_type: _kv_figures(quality, timed)}
                book.add(subject, {"kv_cache": known})


def _kv_figures(quality: dict[str, Any], timed: Any) -> dict[str, Any]:
    return {
        **{key: quality[key] for key in _COMPARED},
        "resident_bytes": timed.resident_bytes,
        "prefill_tokens_per_second": next(iter(timed.prefill.values())),
        "decode_tokens_per_second": next(iter(timed.decode.values())),
    }
