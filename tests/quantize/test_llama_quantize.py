"""Quantizing gives the same bytes whatever came before, in every type the table offers."""

import pytest

from quantize.convert import convert_to_f16
from quantize.digest import sha256_file
from quantize.errors import LibraryError
from quantize.gguf_header import read_header
from quantize.inspect_gguf import contents
from quantize.llama_quantize import quantize_file
from quantize.llama_session import LlamaSession
from quantize.quant_types import resolve, table
from quantize.throughput import measure_throughput


@pytest.fixture(scope="module")
def f16(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("f16")
    convert_to_f16(tiny_model, folder / "f16.gguf", name="tiny", log=folder / "log")
    return folder / "f16.gguf"


def test_the_same_source_and_type_give_the_same_bytes(f16, tmp_path):
    (quant_type,) = resolve(["q4_k_m"])
    for name in ("one.gguf", "two.gguf"):
        quantize_file(f16, tmp_path / name, quant_type)
    assert sha256_file(tmp_path / "one.gguf") == sha256_file(tmp_path / "two.gguf")


def test_every_type_that_needs_nothing_more_can_be_written(f16, tmp_path):
    for entry in table().values():
        if entry.needs_imatrix:
            continue
        target = tmp_path / f"{entry.name}.gguf"
        quantize_file(f16, target, entry)
        assert read_header(target).metadata["general.file_type"] == entry.ftype
        assert contents(target).bits_per_weight <= 32
        target.unlink()


def test_every_type_marked_so_really_needs_an_imatrix(f16, tmp_path):
    for entry in table().values():
        if entry.needs_imatrix:
            with pytest.raises(LibraryError, match=entry.name):
                quantize_file(f16, tmp_path / "out.gguf", entry)
            assert not (tmp_path / "out.gguf").exists()


def test_progress_reaches_the_last_tensor(f16, tmp_path):
    seen = []
    (quant_type,) = resolve(["q8_0"])
    quantize_file(f16, tmp_path / "q.gguf", quant_type, on_tensor=lambda *place: seen.append(place))
    assert seen[-1][0] == seen[-1][1] == len(read_header(f16).tensors)


def test_a_quantized_source_needs_permission(f16, tmp_path):
    q8_0, q4_0 = resolve(["q8_0", "q4_0"])
    quantize_file(f16, tmp_path / "q8.gguf", q8_0)
    with pytest.raises(LibraryError, match="requantizing"):
        quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", q4_0)
    quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", q4_0, allow_requantize=True)
    assert read_header(tmp_path / "q4.gguf").metadata["general.file_type"] == 2


def test_a_session_tokenizes_decodes_in_chunks_and_times(f16):
    with LlamaSession(f16, n_ctx=64, n_batch=4) as session:
        ids = session.tokenize("def add(a, b): return a", parse_special=False, add_special=False)
        rows = [row for chunk in session.decode(ids, first_logits=1) for row in chunk]
        assert len(rows) == len(ids) - 1
        session.reset()
        assert session.last_logits(ids).argmax() == rows[-1].argmax()
        clock = iter([0.0, 2.0, 6.0])
        speed = measure_throughput(
            session, prefill_tokens=8, decode_tokens=2, clock=lambda: next(clock)
        )
        assert (speed.prefill_tokens_per_second, speed.decode_tokens_per_second) == (4.0, 0.5)


def test_a_file_the_library_cannot_load_is_an_error_not_a_crash(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(LibraryError, match="cannot load"):
        LlamaSession(tmp_path / "x.gguf", n_ctx=8)
