"""A fine-tune whose vocabulary has new marks: merged, converted, told in the file, and served."""

import pytest

from quantize.convert.adapter import read_adapter
from quantize.convert.converter import convert_to_f16
from quantize.convert.fim_keys import KEYS, missing_fim_keys
from quantize.convert.hf_folder import assemble
from quantize.convert.merge import merge
from quantize.convert.merge_proof import prove
from quantize.llama.gguf_header import read_header
from quantize.llama.metadata import write_with_keys
from quantize.serve_process import ServerProcess

MARKS = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]


@pytest.fixture(scope="module")
def marked(tmp_path_factory, tiny_model):
    """The tiny model with three more tokens, and an adapter with their trained rows, merged."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("marked")
    base, merged = folder / "base", folder / "merged"
    merged.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(MARKS, special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float16)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(base)
    tokenizer.save_pretrained(folder / "tokenizer")
    new_ids = tokenizer.convert_tokens_to_ids(MARKS)
    settings = LoraConfig(
        r=4, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": new_ids}
    )
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16), settings
    )
    for name, weight in tuned.named_parameters():
        if "trainable_tokens_delta" in name or "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    tuned.save_pretrained(folder / "adapter")
    adapter = read_adapter(folder / "adapter")
    counts = merge(base, adapter, merged)
    prove(base, adapter, merged)
    assemble(base, folder / "tokenizer", None, merged, dtype=counts.dtype)
    raw, target = folder / "raw.gguf", folder / "model.gguf"
    convert_to_f16(merged, raw, name="marked", log=folder / "log")
    write_with_keys(raw, target, missing_fim_keys(raw))
    return target, new_ids


def test_the_file_says_which_tokens_mark_a_gap(marked):
    path, new_ids = marked
    metadata = read_header(path).metadata
    assert [metadata[KEYS[name]] for name in ("prefix", "suffix", "middle")] == new_ids
    assert missing_fim_keys(path) == {}


def test_a_file_without_marks_gets_no_keys(tiny_merged):
    assert missing_fim_keys(tiny_merged / "f16.gguf") == {}


def test_the_server_fills_gaps_with_the_new_tokens(marked):
    body = {"input_prefix": "def add(a, b):\n    ", "input_suffix": "\n", "n_predict": 4}
    with ServerProcess(marked[0], context=256) as server:
        answer = server.ask("/infill", body)
    assert isinstance(answer["content"], str)
    assert answer["tokens_evaluated"] > 3
