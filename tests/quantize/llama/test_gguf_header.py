"""A GGUF is read exactly, and every way of not being whole is told."""

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantize.errors import GgufError
from quantize.llama.gguf_header import read_header
from quantize.llama.inspect_gguf import contents, kv_cache_bytes


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("tokenizer.chat_template", "{{ messages }} ü")
    writer.add_uint32("llama.block_count", 2)
    writer.add_uint32("llama.embedding_length", 64)
    writer.add_uint32("llama.attention.head_count", 4)
    writer.add_array("llama.attention.head_count_kv", [2, 1])
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
    writer.add_array("long", list(range(5000)))
    writer.add_bool("yes", val=True)
    writer.add_tensor("first", np.ones((2, 64), dtype=np.float16))
    writer.add_tensor("second", np.ones((3, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata_and_tensors_agree_with_the_reference_reader(small_gguf):
    header, other = read_header(small_gguf), gguf.GGUFReader(small_gguf)
    assert header.text("tokenizer.chat_template") == "{{ messages }} ü"
    assert header.metadata["tokenizer.ggml.tokens"] == 3
    assert header.metadata["long"] == 5000
    assert header.metadata["yes"] is True
    for mine, theirs in zip(header.tensors, other.tensors, strict=True):
        assert mine.name == theirs.name
        assert mine.num_bytes == theirs.n_bytes
        assert header.data_offset + mine.offset == theirs.data_offset


def test_contents_say_what_is_really_held(small_gguf):
    held = contents(small_gguf)
    assert held.num_parameters == 2 * 64 + 3 * 32
    assert held.type_shares["f16"] == pytest.approx(128 / 224)
    assert held.bits_per_weight == pytest.approx((128 * 16 + 96 * 32) / 224)


def test_the_kv_cache_counts_each_layers_heads(small_gguf):
    per_token = (2 + 1) * (16 + 16) * 2
    assert kv_cache_bytes(read_header(small_gguf), 10) == per_token * 10


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(min_value=0.0, max_value=0.999))
def test_a_file_cut_anywhere_is_refused(small_gguf, tmp_path, share):
    raw = small_gguf.read_bytes()
    end = max(tensor.offset + tensor.num_bytes for tensor in read_header(small_gguf).tensors)
    needed = read_header(small_gguf).data_offset + end
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(raw[: int(needed * share)])
    with pytest.raises(GgufError, match=r"cut short|not a GGUF"):
        read_header(cut)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_header_bytes_never_raise_anything_else(small_gguf, tmp_path, data):
    raw = bytearray(small_gguf.read_bytes())
    place = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
    raw[place] ^= data.draw(st.integers(min_value=1, max_value=255))
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(raw)
    try:
        header = read_header(changed)
    except GgufError:
        return
    assert header.tensors


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "a.gguf"
    text.write_text("hello")
    with pytest.raises(GgufError, match="not a GGUF"):
        read_header(text)
    with pytest.raises(GgufError, match="cannot read"):
        read_header(tmp_path / "absent.gguf")
