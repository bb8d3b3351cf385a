"""GGUF files made from others: with other weights, or a LoRA for them."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def gguf():
    return pytest.importorskip("gguf", reason="gguf comes with the quantize extra")


@pytest.fixture(scope="session")
def rewrite(gguf):
    """Copy a GGUF; `weights` replace tensors, as float32."""

    def rewrite_(source, target, *, weights):
        reader = gguf.GGUFReader(source)
        arch = reader.get_field("general.architecture").contents()
        writer = gguf.GGUFWriter(target, arch)
        for field in reader.fields.values():
            if field.name == "general.architecture" or field.name.startswith("GGUF."):
                continue
            kind = field.types[0]
            part = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=part)
        for tensor in reader.tensors:
            if tensor.name in weights:
                writer.add_tensor(tensor.name, weights[tensor.name].astype(np.float32))
            else:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return target

    return rewrite_


@pytest.fixture(scope="session")
def write_lora(gguf):
    """Write an adapter: `deltas` maps a tensor's name to `(a, b)`, whose product is added."""

    def write_lora_(target, deltas, *, alpha, arch="llama"):
        writer = gguf.GGUFWriter(target, arch)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        for name, (a, b) in deltas.items():
            writer.add_tensor(f"{name}.lora_a", a.astype(np.float32))
            writer.add_tensor(f"{name}.lora_b", b.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return target

    return write_lora_
