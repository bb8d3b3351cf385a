"""Quantizing gives the same bytes again, in every type the table offers, and says why not."""

import gguf
import numpy as np
import pytest

from quantize.digest import sha256_file
from quantize.errors import LibraryError
from quantize.gguf_header import read_header
from quantize.inspect_gguf import contents
from quantize.llama_quantize import quantize_file
from quantize.quant_types import resolve, table

WIDTH = 256
SHAPES = {
    "token_embd": (32, WIDTH),
    "output_norm": (WIDTH,),
    "blk.0.attn_norm": (WIDTH,),
    "blk.0.ffn_norm": (WIDTH,),
    "blk.0.attn_q": (WIDTH, WIDTH),
    "blk.0.attn_k": (WIDTH, WIDTH),
    "blk.0.attn_v": (WIDTH, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH),
    "blk.0.ffn_gate": (WIDTH, WIDTH),
    "blk.0.ffn_up": (WIDTH, WIDTH),
    "blk.0.ffn_down": (WIDTH, WIDTH),
}


@pytest.fixture(scope="module")
def f16(tmp_path_factory):
    """Write one random layer of a llama, without a vocabulary."""
    path = tmp_path_factory.mktemp("f16") / "f16.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_vocab_size(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)
    random = np.random.default_rng(5)
    for name, shape in SHAPES.items():
        kind = np.float16 if len(shape) == 2 else np.float32
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


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
