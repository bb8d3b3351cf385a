"""Dithered weights stay in their cells, leave the grid, and everything else is copied."""

import gguf
import numpy as np
import pytest

from quantize.lab.dither import main
from quantize.llama.gguf_header import read_header
from quantize.llama.weights import weights


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("dither") / "q.gguf"
    values = np.random.default_rng(4).normal(size=(16, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.name", "tiny")
    writer.add_file_type(3)
    for name, kind in (("blk.0.attn_q.weight", "Q4_1"), ("token_embd.weight", "Q8_0")):
        raw_type = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(values, raw_type), raw_dtype=raw_type)
    writer.add_tensor("output_norm.weight", values[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_weight_moves_within_its_cell(source, tmp_path):
    assert main([str(source), str(tmp_path / "d.gguf")]) == 0
    before, after = weights(read_header(source)), weights(read_header(tmp_path / "d.gguf"))
    for name, cell in (("blk.0.attn_q.weight", 0.45), ("token_embd.weight", 0.03)):
        moved = np.abs(after[name].read(0, 16) - before[name].read(0, 16))
        assert 0 < np.median(moved) < moved.max() < cell
    assert np.array_equal(
        after["output_norm.weight"].read(0, 1), before["output_norm.weight"].read(0, 1)
    )


def test_the_result_is_an_f16_file_with_the_other_keys_kept_and_repeats(source, tmp_path):
    for name in ("one.gguf", "two.gguf"):
        main([str(source), str(tmp_path / name)])
    header = read_header(tmp_path / "one.gguf")
    assert header.text("general.name") == "tiny"
    assert header.metadata["general.file_type"] == 1
    assert {tensor.type_name for tensor in header.tensors} == {"f16", "f32"}
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_a_type_whose_cells_are_not_known_is_refused(tmp_path, capsys):
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    kind = gguf.GGMLQuantizationType.Q4_K
    writer.add_tensor("a.weight", np.zeros((1, 144), dtype=np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert main([str(tmp_path / "k.gguf"), str(tmp_path / "d.gguf")]) == 2
    assert "a.weight is q4_k; cells are known for" in capsys.readouterr().err
