"""A SentencePiece file beside a base comes along, and the GGUF cuts text as the tokenizer does."""

import gguf
import pytest

from quantize.convert.converter import convert_to_f16
from quantize.convert.hf_folder import assemble, load_tokenizer
from quantize.llama.session import LlamaSession

TEXTS = ["def add(a, b):\n\n    return a  + b\n", "héllo 🙂<table> x", "<start_of_turn>user\n\n\n"]
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A narrow random Gemma 3 with the files that its tokenizer is published as."""
    import sentencepiece
    import torch
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    folder = tmp_path_factory.mktemp("gemma") / "base"
    text = ["def add(a, b): return a + b", "hello world of tables and turns"] * 20
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        control_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>"],
        user_defined_symbols=["<table>", "\n", "\n\n", "▁▁", "▁▁▁▁"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        minloglevel=2,
    )
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=340,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=128,
    )
    Gemma3ForCausalLM(config).to(torch.float16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder.parent / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def merged(base):
    """The folder around the base's own weights, with the tokenizer a run would have written."""
    import shutil

    folder = base.parent / "merged"
    folder.mkdir()
    shutil.copyfile(base / "model.safetensors", folder / "model.safetensors")
    assemble(base, base.parent / "tokenizer", None, folder, dtype="float16")
    return folder


def test_the_gguf_gives_the_trained_tokenizers_ids(merged):
    path = merged.parent / "model.gguf"
    convert_to_f16(merged, path, name="tiny", log=merged.parent / "log")
    tokenizer = load_tokenizer(merged)
    fields = gguf.GGUFReader(path).fields
    names, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    types = dict(zip(names, kinds, strict=True))
    assert fields["tokenizer.ggml.model"].contents() == "llama"
    assert types["<start_of_turn>"] == CONTROL
    assert types["<table>"] == types["  "] == USER_DEFINED
    assert types["<0x41>"] == BYTE
    with LlamaSession(path, n_ctx=64) as session:
        for text in TEXTS:
            wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert session.tokenize(text, parse_special=True, add_special=False) == wanted
