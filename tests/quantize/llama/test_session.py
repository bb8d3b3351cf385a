"""A loaded file tokenizes and decodes in chunks; one that cannot load is an error."""

import pytest

from quantize.errors import LibraryError
from quantize.llama.session import LlamaSession


def test_a_session_tokenizes_and_decodes_in_chunks(tiny_merged):
    with LlamaSession(tiny_merged / "f16.gguf", n_ctx=64, n_batch=4) as session:
        ids = session.tokenize("def add(a, b): return a", parse_special=False, add_special=False)
        rows = [row for chunk in session.decode(ids, first_logits=1) for row in chunk]
        assert len(rows) == len(ids) - 1
        session.reset()
        assert session.last_logits(ids).argmax() == rows[-1].argmax()


def test_a_file_the_library_cannot_load_is_an_error_not_a_crash(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(LibraryError, match="cannot load"):
        LlamaSession(tmp_path / "x.gguf", n_ctx=8)
