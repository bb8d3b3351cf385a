"""What is foreseen of a file is what the conversion makes, and bad input is told by it at once."""

import json
import re
import struct

import numpy as np
import pytest

from quantize.__main__ import main
from quantize.imatrix.file import Entry, Imatrix, write
from quantize.llama.gguf_header import read_header
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice, planned
from quantize.shapes import foreseen, sketched
from quantize.source import resolve

PREFIX = "model.layers.0"
SETTINGS = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "num_attention_heads": 9,
    "max_position_embeddings": 128,
    "hidden_size": 576,
    "intermediate_size": 1536,
}
SHAPES = {
    "model.embed_tokens.weight": (64, 576),
    "model.norm.weight": (576,),
    f"{PREFIX}.input_layernorm.weight": (576,),
    f"{PREFIX}.post_attention_layernorm.weight": (576,),
    f"{PREFIX}.self_attn.q_proj.weight": (576, 576),
    f"{PREFIX}.self_attn.k_proj.weight": (192, 576),
    f"{PREFIX}.self_attn.v_proj.weight": (192, 576),
    f"{PREFIX}.self_attn.o_proj.weight": (576, 576),
    f"{PREFIX}.mlp.gate_proj.weight": (1536, 576),
    f"{PREFIX}.mlp.up_proj.weight": (1536, 576),
    f"{PREFIX}.mlp.down_proj.weight": (576, 1536),
}


def lay_out(folder, settings=SETTINGS, shapes=SHAPES):
    """Write a folder whose weights are a header over nothing."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    entries = {
        name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]}
        for name, shape in shapes.items()
    }
    head = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    return folder


def matrix_for(path, columns):
    """Write an importance matrix of one layer whose attn_k sees so many columns."""
    widths = {"attn_q": 576, "attn_k": columns, "ffn_down": 1536}
    ones = {
        f"blk.0.{name}.weight": Entry(sums=np.ones((1, width)), counts=np.ones(1, dtype=np.int64))
        for name, width in widths.items()
    }
    write(path, Imatrix(entries=ones), {})
    return path


@pytest.fixture
def folder(tmp_path):
    return lay_out(tmp_path / "odd")


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Ask for a dry run; return the one line it ends with."""
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path / "home"))

    def ask(*arguments):
        assert main([*map(str, arguments), "--dry-run"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert not (tmp_path / "home").exists()
        (line,) = (line for line in said.err.splitlines() if line.startswith("error:"))
        return line

    return ask


def test_what_is_foreseen_of_a_folder_is_what_the_converter_writes(tiny_model, base_gguf):
    real, told = read_header(base_gguf), foreseen(resolve(str(tiny_model))[0])
    assert told is not None
    held = {tensor.name: (tensor.shape, tensor.type_name) for tensor in real.tensors}
    assert {tensor.name: (tensor.shape, tensor.type_name) for tensor in told.tensors} == held
    assert 0.98 * real.data_offset < told.data_offset < real.data_offset
    with sketched(told) as sketch:
        assert sketch.stat().st_size < 1e6
        for entry in table().values():
            choice = TypeChoice(quant_type=entry)
            assert planned(sketch, choice) == planned(base_gguf, choice), entry.name
    assert not sketch.exists()


def test_of_a_finetune_run_the_shapes_of_its_base_are_known(tiny_run, tiny_model):
    told, base = (foreseen(resolve(str(each))[0]) for each in (tiny_run, tiny_model))
    assert told is not None
    assert base is not None
    assert told.tensors == base.tensors
    assert told.data_offset == base.data_offset


def test_nothing_is_foreseen_of_a_model_whose_conversion_is_not_known(tmp_path, capsys):
    other = lay_out(tmp_path / "other", SETTINGS | {"model_type": "mixtral"})
    odd = lay_out(tmp_path / "more", SETTINGS, SHAPES | {"model.extra.weight": (2, 2)})
    assert foreseen(resolve(str(other))[0]) is None
    assert foreseen(resolve(str(odd))[0]) is None
    assert main(["--from", str(other), "--types", "f16,q1_0", "--dry-run"]) == 0


def test_a_budget_below_the_smallest_file_is_refused_with_that_size(folder, refused):
    said = refused("--from", folder, "--types", "f16", "--target-size", "300K", "--imatrix", "none")
    size = int(re.search(r"smallest file .* model, ([\d,]+) bytes", said)[1].replace(",", ""))
    weights = 64 * 576 + 2 * 576 * (576 + 192) + 3 * 1536 * 576
    assert weights * 2.5 / 8 < size < weights * 4.5 / 8 + 20_000  # q2_k fits ffn_down only
    assert "nothing to choose" in refused("--from", folder, "--target-size", "50M")
    assert "below the smallest" in refused("--from", folder, "--target-bpw", "1.0")


def test_the_smallest_size_told_beforehand_is_the_one_the_search_finds(base_gguf, refused):
    from quantize.budget.search import Search
    from quantize.config import BudgetConfig
    from quantize.errors import BudgetError

    types = ("q4_0", "q8_0")
    asked = ["--types", "f16", "--target-size", "1M", "--set", f"budget.types={list(types)}"]
    told = refused("--from", base_gguf, *asked)
    with pytest.raises(BudgetError) as found:
        Search(base_gguf, BudgetConfig(types=types), None, []).run(1 << 20)
    assert told == f"error: {found.value}"


def test_what_is_no_importance_matrix_or_anothers_is_refused(folder, tmp_path, refused):
    text = tmp_path / "text"
    text.write_text("root:x:0:0")
    assert "importance matrix in GGUF form" in refused("--from", folder, "--imatrix", text)
    said = refused("--from", folder, "--imatrix", matrix_for(tmp_path / "im.gguf", 512))
    assert "blk.0.attn_k.weight has 512 columns there" in said
    assert "odd-f16.gguf needs 576 (its shape is 576 x 192)" in said


def test_a_type_that_no_row_fits_is_refused_and_one_that_falls_back_announced(
    folder, refused, capsys
):
    said = refused("--from", folder, "--types", "mxfp4_moe,q1_0")
    assert "q1_0 takes rows in blocks of 128; token_embd.weight has rows of 576" in said
    assert main(["--from", str(folder), "--types", "q4_k_m", "--dry-run"]) == 0
    assert "rows that do not fit its blocks and fall back: " in capsys.readouterr().err


def test_weights_without_a_readable_header_are_refused(folder, refused):
    (folder / "model.safetensors").write_bytes(b"\x00" * 9)
    assert "no readable safetensors file" in refused("--from", folder)
