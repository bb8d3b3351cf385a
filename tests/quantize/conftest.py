"""A finetune run made by hand: tiny random weights behind a real tokenizer, and the real model."""

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

CONVERSATIONS = {
    "Write a Python function that returns the sum of a list.": (
        "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
        "    return result\n"
    ),
    "Write a Python function that reverses a string.": (
        "def reverse(text):\n    return text[::-1]\n"
    ),
    "Write a Python function that says whether a number is even.": (
        "def is_even(number):\n    return number % 2 == 0\n"
    ),
    "Write a Python function that counts the vowels of a text.": (
        "def count_vowels(text):\n    return sum(letter in 'aeiou' for letter in text.lower())\n"
    ),
}


@pytest.fixture(scope="session")
def tokenizer(smollm2_gguf):
    """Rebuild SmolLM2's tokenizer; transformers' reading of a GGUF loses how it splits digits."""
    from tokenizers import decoders, pre_tokenizers
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(smollm2_gguf.parent, gguf_file=smollm2_gguf.name)
    loaded.eos_token = "<|im_end|>"
    backend = loaded.backend_tokenizer
    backend.model.byte_fallback = backend.model.fuse_unk = False
    backend.decoder = decoders.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return loaded


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tokenizer) -> Path:
    """Save a random llama of two layers whose rows are multiples of 256."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.08,
    )
    folder = tmp_path_factory.mktemp("tiny") / "tiny-model"
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_model) -> Path:
    """Lay out a complete finetune run over the tiny model."""
    return make_run(tmp_path_factory.mktemp("home") / "runs", tiny_model)


@pytest.fixture(scope="session")
def tiny_merged(tmp_path_factory, tiny_run, tiny_model) -> Path:
    """Make a folder with merged/ and f16.gguf of the tiny run, step by step."""
    from quantize.convert.adapter import read_adapter
    from quantize.convert.converter import convert_to_f16
    from quantize.convert.hf_folder import assemble
    from quantize.convert.merge import merge

    folder = tmp_path_factory.mktemp("chain")
    merged = folder / "merged"
    merged.mkdir()
    counts = merge(tiny_model, read_adapter(tiny_run / "adapter"), merged)
    template = tiny_run / "chat_template.jinja"
    assemble(tiny_model, tiny_run / "tokenizer", template, merged, dtype=counts.dtype)
    convert_to_f16(merged, folder / "f16.gguf", name="tiny", log=folder / "log")
    return folder


@pytest.fixture(scope="session")
def base_gguf(tmp_path_factory, tiny_model) -> Path:
    """Convert the tiny model as it is, without the run's adapter."""
    from quantize.convert.converter import convert_to_f16

    path = tmp_path_factory.mktemp("base") / "base.gguf"
    convert_to_f16(tiny_model, path, name="tiny", log=path.with_suffix(".log"))
    return path


def make_run(root: Path, base: Path, *, scale: float = 0.05) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    run = root / "finetune" / "20261123T000000Z-0123abcd"
    torch.manual_seed(11)
    settings = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16)
    model = get_peft_model(loaded, settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale)
    model.save_pretrained(run / "adapter")
    _copy_tokenizer(base, run / "tokenizer")
    template = (base / "chat_template.jinja").read_text()
    (run / "chat_template.jinja").write_text(template)
    lines = [json.dumps(_example(*pair)) + "\n" for pair in CONVERSATIONS.items()]
    (run / "heldout.jsonl").write_text("".join(lines))
    (run / "train.jsonl").write_text("".join(reversed(lines)))
    _write_manifest(run, base)
    return run


def _example(question: str, answer: str) -> dict:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": hashlib.sha256(question.encode()).hexdigest()[:8], "messages": messages}


def _copy_tokenizer(base: Path, target: Path) -> None:
    target.mkdir()
    for path in base.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            (target / path.name).write_bytes(path.read_bytes())


def _write_manifest(run: Path, base: Path) -> None:
    roles = {
        "adapter": "adapter",
        "tokenizer": "tokenizer",
        "chat_template.jinja": "chat_template",
        "heldout.jsonl": "heldout_examples",
        "train.jsonl": "train_examples",
    }
    outputs = []
    for path in sorted(run.rglob("*")):
        relative = path.relative_to(run)
        if path.is_file() and relative.parts[0] in roles:
            raw = path.read_bytes()
            digest = hashlib.sha256(raw).hexdigest()
            outputs.append(
                {
                    "role": roles[relative.parts[0]],
                    "path": relative.as_posix(),
                    "sha256": digest,
                    "size_bytes": len(raw),
                }
            )
    manifest = {
        "schema_version": 1,
        "stage": "finetune",
        "run_id": run.name,
        "created_at": "2026-11-23T00:00:00+00:00",
        "config_hash": "0123abcd" * 8,
        "git": {"commit": None, "dirty": None},
        "config": {},
        "seed": 1,
        "inputs": [
            {
                "role": "data",
                "ref": "stdlib",
                "sha256": "0" * 64,
                "size_bytes": 1,
                "licence": "PSF-2.0",
            }
        ],
        "outputs": outputs,
        "base_model": {
            "ref": f"local/{base.name}",
            "sha256": "1" * 64,
            "kind": "hf_dir",
            "path": str(base),
            "dtype": "float16",
            "licence": "Apache-2.0",
            "quantized_from": None,
        },
        "versions": {},
        "hardware": {},
        "metrics": {},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))


def _set_value(key, form, value):
    def edit(raw, header):
        end = header.spans[key][1]
        raw[end - struct.calcsize(form) : end] = struct.pack(form, value)

    return edit


def _wrong_template(raw, header):
    start, end = header.spans["tokenizer.chat_template"]
    raw[start:end] = raw[start:end].replace(b"assistant", b"assistent")


def _unwanted_bos(raw, header):
    _set_value("tokenizer.ggml.bos_token_id", "<I", 0)(raw, header)
    raw[header.spans["tokenizer.ggml.add_bos_token"][1] - 1] = 1


def _permuted_head(raw, header):
    tensor = next(t for t in header.tensors if t.name == "blk.0.attn_v.weight")
    start = header.data_offset + tensor.offset
    middle, end = start + tensor.num_bytes // 2, start + tensor.num_bytes
    raw[start:end] = raw[middle:end] + raw[start:middle]


def _swapped_layers(raw, header):
    names = slice(header.kv_end, header.info_end)
    swapped = raw[names].replace(b"blk.0.", b"blk.x.").replace(b"blk.1.", b"blk.0.")
    raw[names] = swapped.replace(b"blk.x.", b"blk.1.")


_FAULTS = {
    "swapped layers": _swapped_layers,
    "wrong template": _wrong_template,
    "swapped EOS": _set_value("tokenizer.ggml.eos_token_id", "<I", 1),
    "unwanted BOS": _unwanted_bos,
    "permuted head": _permuted_head,
    "wrong rope base": _set_value("llama.rope.freq_base", "<f", 50.0),
}


@pytest.fixture
def faulty(tmp_path):
    """Copy a GGUF with a fault planted in it, by name."""
    from quantize.llama.gguf_header import read_header

    def plant(source: Path, fault: str) -> Path:
        raw = bytearray(source.read_bytes())
        _FAULTS[fault](raw, read_header(source))
        path = tmp_path / source.name
        path.write_bytes(raw)
        return path

    return plant
