"""Logits of weights that stay 16-bit are those of the same model held in float32."""

import sys
from pathlib import Path

import numpy as np
import pytest

from quantize.verify.hf_reference import HfModel

SIZES = {
    "vocab_size": 20_000,  # more than one slice of the output layer
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
KINDS = {
    "llama, shared output layer": ("llama", {"tie_word_embeddings": True}, "float16"),
    "qwen2, biases": ("qwen2", {"tie_word_embeddings": False}, "bfloat16"),
    "gemma, scaled embedding": ("gemma", {"head_dim": 8}, "bfloat16"),
    "experts": (
        "qwen3_moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
        "bfloat16",
    ),
    "stored in 32 bits": ("llama", {}, "float32"),
}
TOKENS = [5, 17, 19_999, 3, 8, 120, 44]


def saved(folder: Path, kind: str, more: dict, dtype: str) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **SIZES, **more, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    return folder


def rows(model: HfModel) -> np.ndarray:
    return next(iter(model.decode(TOKENS, first_logits=2)))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_logits_are_those_of_a_model_held_in_float32(tmp_path, kind):
    import torch
    from transformers import AutoModelForCausalLM

    folder = saved(tmp_path / "model", *kind)
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = wide(input_ids=torch.tensor([TOKENS])).logits[0, 2:].numpy()
    model = HfModel(folder)
    for found in (rows(model), rows(model)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        assert found.dtype == np.float32
    stored = {str(weight.dtype) for weight in model._model.parameters()}
    assert stored == {f"torch.{kind[2]}"}


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted in /proc")
def test_no_page_of_the_weights_stays_in_memory(tmp_path):
    folder = saved(tmp_path / "model", *KINDS["qwen2, biases"])
    model = HfModel(folder)
    rows(model)
    resident, inside = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0] and ":" not in line.split(maxsplit=1)[0]:
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            resident.append(int(line.split()[1]))
    assert resident
    assert sum(resident) < 200  # KiB of about 2,600
    assert np.array_equal(rows(model), rows(model))
