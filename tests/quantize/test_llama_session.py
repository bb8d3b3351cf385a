"""A loaded file tokenizes, decodes in chunks and is timed; one that cannot load is an error."""

import pytest

from quantize.errors import LibraryError
from quantize.llama_session import LlamaSession
from quantize.throughput import measure_throughput


def test_a_session_tokenizes_decodes_in_chunks_and_times(tiny_merged):
    with LlamaSession(tiny_merged / "f16.gguf", n_ctx=64, n_batch=4) as session:
        ids = session.tokenize("def add(a, b): return a", parse_special=False, add_special=False)
        rows = [row for chunk in session.decode(ids, first_logits=1) for row in chunk]
        assert len(rows) == len(ids) - 1
        session.reset()
        assert session.last_logits(ids).argmax() == rows[-1].argmax()
        clock = iter([0.0, 2.0, 4.0, 6.0, 60.0])
        speed = measure_throughput(
            session, prefill_tokens=8, decode_tokens=3, clock=lambda: next(clock)
        )
        assert (speed.prefill_tokens_per_second, speed.decode_tokens_per_second) == (4.0, 0.5)


def test_a_file_the_library_cannot_load_is_an_error_not_a_crash(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(LibraryError, match="cannot load"):
        LlamaSession(tmp_path / "x.gguf", n_ctx=8)
