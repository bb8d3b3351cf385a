"""What is written tensor by tensor is what the library reads, and nothing unannounced is."""

import pytest

from quantize.convert.shard_file import Entry, write_shard


def entry(tensor, dtype):
    size = tensor.numel() * tensor.element_size()
    return Entry(dtype=dtype, shape=tuple(tensor.shape), num_bytes=size)


@pytest.fixture
def tensors():
    import torch

    torch.manual_seed(1)
    return {
        "name with größe": (torch.randn(3, 5).to(torch.bfloat16), "BF16"),
        "transposed": (torch.randn(4, 2).to(torch.float16).T, "F16"),
        "scalar": (torch.tensor(7, dtype=torch.int64), "I64"),
        "empty": (torch.zeros(0, 4, dtype=torch.float16), "F16"),
    }


def test_the_library_reads_what_was_written(tmp_path, tensors):
    from safetensors import safe_open

    entries = {name: entry(*pair) for name, pair in tensors.items()}
    write_shard(
        tmp_path / "x.safetensors", entries, ((name, pair[0]) for name, pair in tensors.items())
    )
    with safe_open(tmp_path / "x.safetensors", framework="pt") as found:
        assert set(found.keys()) == set(tensors)
        assert found.metadata() == {"format": "pt"}
        for name, (tensor, dtype) in tensors.items():
            assert found.get_slice(name).get_dtype() == dtype
            assert found.get_tensor(name).equal(tensor)


def test_a_tensor_that_is_missing_is_not_passed_over(tmp_path, tensors):
    entries = {name: entry(*pair) for name, pair in tensors.items()}
    with pytest.raises(ValueError, match="shorter"):
        write_shard(tmp_path / "x.safetensors", entries, iter(()))
