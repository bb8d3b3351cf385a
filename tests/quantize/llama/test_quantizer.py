"""Quantizing gives the same bytes again, in every type the table offers, and says why not."""

import gguf
import numpy as np
import pytest

from quantize.digest import sha256_file
from quantize.errors import LibraryError
from quantize.llama.ggml_types import by_name
from quantize.llama.gguf_header import read_header
from quantize.llama.inspect_gguf import contents
from quantize.llama.metadata import file_keys, write_with_keys
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice, planned, quantize_file

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


def stock(name):
    return TypeChoice(quant_type=table()[name])


@pytest.fixture(scope="module")
def f16(tmp_path_factory):
    """Write one random layer of a llama, without a vocabulary."""
    return write_model(tmp_path_factory.mktemp("f16") / "f16.gguf", SHAPES)


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory):
    """Write two tensors, one of which has rows no multiple of 256."""
    shapes = {"token_embd": (32, WIDTH), "blk.0.attn_q": (8, 576)}
    return write_model(tmp_path_factory.mktemp("odd") / "f16.gguf", shapes)


def write_model(path, shapes):
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
    for name, shape in shapes.items():
        kind = np.float16 if len(shape) == 2 else np.float32
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_same_source_and_type_give_the_same_bytes(f16, tmp_path):
    choice = stock("q4_k_m")
    for name in ("one.gguf", "two.gguf"):
        quantize_file(f16, tmp_path / name, choice)
    assert sha256_file(tmp_path / "one.gguf") == sha256_file(tmp_path / "two.gguf")


def test_keys_take_the_place_of_the_sources_and_the_rest_of_its_metadata_stays(f16, tmp_path):
    source, target = tmp_path / "source.gguf", tmp_path / "target.gguf"
    write_with_keys(f16, source, {"edgesmith.base_model.ref": "base", **file_keys("f16", "a" * 64)})
    keys = file_keys("q4_0", "b" * 64, "c" * 64)
    quantize_file(source, target, stock("q4_0"), keys=keys)
    written = read_header(target).metadata
    assert {key: written[key] for key in keys} == keys
    assert written["edgesmith.base_model.ref"] == "base"


def test_every_type_that_needs_nothing_more_can_be_written(f16, tmp_path):
    for entry in table().values():
        if entry.needs_imatrix:
            continue
        target = tmp_path / f"{entry.name}.gguf"
        quantize_file(f16, target, TypeChoice(quant_type=entry))
        assert read_header(target).metadata["general.file_type"] == entry.ftype
        assert contents(target).bits_per_weight <= 32
        target.unlink()


def test_every_type_marked_so_really_needs_an_imatrix(f16, tmp_path):
    for entry in table().values():
        if entry.needs_imatrix:
            with pytest.raises(LibraryError, match=entry.name):
                quantize_file(f16, tmp_path / "out.gguf", TypeChoice(quant_type=entry))
            assert not (tmp_path / "out.gguf").exists()


def test_the_block_length_of_every_type_is_that_of_a_tensor_it_plans(f16):
    for entry in table().values():
        held = set(planned(f16, TypeChoice(quant_type=entry)).types.values())
        lengths = {by_name(name).block_length for name in held}
        assert entry.block_length in lengths or entry.name == "mxfp4_moe", entry.name


def test_types_that_need_an_imatrix_can_be_written_with_one(f16, tmp_path):
    random = np.random.default_rng(3)
    means = {
        f"{name}.weight": random.uniform(0.5, 2, shape[-1:]).astype(np.float32)
        for name, shape in SHAPES.items()
        if len(shape) == 2
    }
    for name in ("iq3_xxs", "q2_k_s"):
        target = tmp_path / f"{name}.gguf"
        quantize_file(f16, target, stock(name), imatrix=means)
        assert contents(target).bits_per_weight < 5


def test_types_that_ignore_an_imatrix_are_known_and_the_others_use_it(f16, tmp_path):
    heavy = np.where(np.arange(WIDTH) % 2, 9.0, 0.1).astype(np.float32)
    means = {f"{name}.weight": heavy for name, shape in SHAPES.items() if len(shape) == 2}
    for name in ("f16", "q8_0", "q4_0", "q5_k_m"):
        choice = stock(name)
        quantize_file(f16, tmp_path / "with.gguf", choice, imatrix=means)
        quantize_file(f16, tmp_path / "without.gguf", choice)
        same = sha256_file(tmp_path / "with.gguf") == sha256_file(tmp_path / "without.gguf")
        assert same != choice.quant_type.uses_imatrix, name


def test_what_is_planned_is_what_the_file_holds(f16, tmp_path):
    choice = TypeChoice(
        quant_type=table()["q4_k_m"],
        tensor_types={"blk.0.ffn_up.weight": "q8_0", "token_embd.weight": "q5_k"},
    )
    said = planned(f16, choice)
    quantize_file(f16, tmp_path / "q.gguf", choice)
    held = {tensor.name: tensor.type_name for tensor in read_header(tmp_path / "q.gguf").tensors}
    assert said.types == held
    assert (held["blk.0.ffn_up.weight"], held["token_embd.weight"]) == ("q8_0", "q5_k")
    assert said.explain("q4_k_m") is None


def test_tensors_that_cannot_take_a_type_are_told_before_the_work(odd_model):
    said = planned(odd_model, stock("q4_k_m"))
    assert said.fallbacks == {"q4_k to q5_0": 1}
    assert said.explain("q4_k_m") == (
        "q4_k_m: 1 of 2 tensors have rows that do not fit its blocks and fall back: "
        "1 from q4_k to q5_0"
    )


def test_progress_reaches_the_last_tensor(f16, tmp_path):
    seen = []
    quantize_file(
        f16, tmp_path / "q.gguf", stock("q8_0"), on_tensor=lambda *place: seen.append(place)
    )
    assert seen[-1][0] == seen[-1][1] == len(read_header(f16).tensors)


def test_a_quantized_source_needs_permission(f16, tmp_path):
    q8_0, q4_0 = stock("q8_0"), stock("q4_0")
    quantize_file(f16, tmp_path / "q8.gguf", q8_0)
    with pytest.raises(LibraryError, match="requantizing"):
        quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", q4_0)
    quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", q4_0, allow_requantize=True)
    assert read_header(tmp_path / "q4.gguf").metadata["general.file_type"] == 2
