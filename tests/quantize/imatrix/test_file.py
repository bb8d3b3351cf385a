"""An importance matrix comes back as written, is refused elsewhere, and other tools read it."""

import shutil
import subprocess

import numpy as np
import pytest

from quantize.errors import ImatrixError
from quantize.imatrix import file as imatrix
from quantize.imatrix.collect import collect
from quantize.imatrix.file import Entry, Imatrix
from quantize.llama.gguf_header import read_header


def matrix(**shapes) -> Imatrix:
    random = np.random.default_rng(1)
    entries = {
        name.replace("__", "."): Entry(
            sums=random.uniform(1, 2, shape), counts=np.full(shape[0], 7, dtype=np.int64)
        )
        for name, shape in shapes.items()
    }
    return Imatrix(entries=entries, datasets=("train.jsonl",), num_chunks=3, chunk_tokens=512)


@pytest.fixture(scope="module")
def collected(tiny_merged):
    return collect(tiny_merged / "f16.gguf", [range(5, 45), range(100, 130)]).entries


def test_what_is_written_is_read_back_and_the_bytes_repeat(tmp_path):
    held = matrix(blk__0__attn_q__weight=(1, 8), blk__0__ffn_up_exps__weight=(4, 8))
    for name in ("one.gguf", "two.gguf"):
        imatrix.write(tmp_path / name, held, {"edgesmith.imatrix.num_tokens": 21})
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    back = imatrix.read(tmp_path / "one.gguf")
    assert (back.num_chunks, back.chunk_tokens) == (3, 512)
    assert back.entries.keys() == held.entries.keys()
    for name, entry in held.entries.items():
        assert np.array_equal(back.entries[name].counts, entry.counts)
        assert np.allclose(back.entries[name].means(), entry.means(), rtol=1e-6)


def test_an_expert_that_saw_nothing_counts_as_evenly_important():
    entry = Entry(sums=np.array([[6.0, 8.0], [0.0, 0.0]]), counts=np.array([2, 0]))
    assert entry.means().tolist() == [[3.0, 4.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blk.0.attn_q.weight": (1, 320)}, r"blk.0.attn_q.weight has 320 columns .* needs 256"),
        ({"blk.7.attn_q.weight": (1, 256)}, r"it has blk.7.attn_q.weight \(256 x 1\), which"),
        ({}, r"says nothing of blk.0"),
    ],
)
def test_another_models_matrix_is_refused_with_tensor_and_shape(
    tiny_merged, change, said, tmp_path
):
    model = read_header(tiny_merged / "f16.gguf")
    shapes = {"blk.1.attn_q.weight": (1, 256), **change}
    held = matrix(**{name.replace(".", "__"): shape for name, shape in shapes.items()})
    with pytest.raises(ImatrixError, match=said):
        imatrix.require_fit(tmp_path / "theirs.gguf", held, model)


def test_a_matrix_of_this_model_fits(tiny_merged, collected, tmp_path):
    model = read_header(tiny_merged / "f16.gguf")
    assert collected  # an empty matrix would fit any model
    imatrix.require_fit(tmp_path / "own.gguf", Imatrix(entries=collected), model)


def test_a_file_that_is_no_matrix_is_refused(tiny_merged, tmp_path):
    with pytest.raises(ImatrixError, match="holds no importance matrix but a llama file"):
        imatrix.read(tiny_merged / "f16.gguf")
    (tmp_path / "old.dat").write_bytes(b"\x05\0\0\0blk.")
    with pytest.raises(ImatrixError, match="--output-format gguf"):
        imatrix.read(tmp_path / "old.dat")


def test_llama_quantize_reads_what_is_written_and_makes_the_same_tensors(
    tiny_merged, collected, tmp_path
):
    from quantize.llama.quant_types import table
    from quantize.llama.quantizer import TypeChoice, quantize_file

    program = shutil.which("llama-quantize")
    if program is None:
        pytest.skip("llama-quantize is not on PATH")
    held = Imatrix(entries=collected, datasets=("train.jsonl",), num_chunks=2, chunk_tokens=40)
    imatrix.write(tmp_path / "own.gguf", held, {})
    source, ours, theirs = tiny_merged / "f16.gguf", tmp_path / "o.gguf", tmp_path / "t.gguf"
    command = [program, "--imatrix", str(tmp_path / "own.gguf"), str(source), str(theirs), "Q4_K_M"]
    subprocess.run(command, check=True, capture_output=True)
    means = imatrix.read(tmp_path / "own.gguf").means()
    quantize_file(source, ours, TypeChoice(quant_type=table()["q4_k_m"]), imatrix=means)
    assert _tensor_bytes(ours) == _tensor_bytes(theirs)


def _tensor_bytes(path):
    header = read_header(path)
    return path.read_bytes()[header.data_offset :]
