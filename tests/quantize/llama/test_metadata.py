"""Our keys enter a file without touching anything else, and always as the same bytes."""

import gguf
import numpy as np
import pytest

from quantize.digest import sha256_file
from quantize.llama.gguf_header import read_header
from quantize.llama.metadata import Provenance, parent_sha256, write_with_keys

PROVENANCE = Provenance(
    base_ref="org/base",
    base_sha256=None,
    base_licence="Apache-2.0",
    llama_cpp_commit="abc",
    data_licences=("PSF-2.0", "MIT", "MIT"),
)


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["x", "yy"])
    writer.add_tensor("weight", np.arange(96, dtype=np.float32).reshape(3, 32))
    writer.add_tensor("other", np.arange(32, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors_and_other_keys_stay_as_they_are(plain, tmp_path):
    target = tmp_path / "out.gguf"
    write_with_keys(plain, target, PROVENANCE.keys("f16", "f" * 64))
    before, after = gguf.GGUFReader(plain), gguf.GGUFReader(target)
    assert after.get_field("tokenizer.ggml.tokens").contents() == ["x", "yy"]
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert old.name == new.name
        assert np.array_equal(old.data, new.data)
    assert after.get_field("edgesmith.data.licences").contents() == "MIT,PSF-2.0"
    assert after.get_field("edgesmith.schema_version").contents() == 1
    assert after.get_field("edgesmith.base_model.sha256") is None


def test_writing_again_replaces_our_keys_and_gives_the_same_bytes(plain, tmp_path):
    once, twice, other = (tmp_path / name for name in ("1.gguf", "2.gguf", "3.gguf"))
    keys = PROVENANCE.keys("q8_0", "a" * 64)
    write_with_keys(plain, once, keys)
    write_with_keys(plain, other, PROVENANCE.keys("f16", "b" * 64) | {"edgesmith.more": "x"})
    write_with_keys(other, twice, keys)
    assert sha256_file(once) == sha256_file(twice)
    assert parent_sha256(twice) == "a" * 64
    assert "edgesmith.more" not in read_header(twice).metadata
