"""Small real things to test with: a tokenizer, a random model that trains in seconds, the CLI."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _ignore_warnings_of_training_libraries():
    with warnings.catch_warnings():
        for module in ("torch", "transformers", "huggingface_hub", "datasets", "importlib"):
            warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        yield


def _make_tiny_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["def add(a, b):\n    return a + b\n\n"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a two-layer random Llama and a byte-level tokenizer with ChatML."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    _make_tiny_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_model, tmp_path_factory):
    """A finished fine-tune of the tiny model, made by hand: its adapter is random and large."""
    import json

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    run = tmp_path_factory.mktemp("tiny") / "runs" / "finetune" / "20260101T000000Z-00000000"
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    lora = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(model, lora)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(run / "adapter")
    _make_tiny_tokenizer().save_pretrained(run / "tokenizer")
    turns = [{"role": "user", "content": "add"}, {"role": "assistant", "content": "return a"}]
    rows = [
        {"id": f"{n}", "messages": [{"role": "system", "content": "x" * n}, *turns]}
        for n in range(5)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "heldout.jsonl").write_text(text, encoding="utf-8")
    manifest = {
        "schema_version": 1,
        "stage": "finetune",
        "run_id": run.name,
        "base_model": {"ref": "tiny-llama", "kind": "hf_dir", "path": str(tiny_model)},
    }
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return run


@pytest.fixture
def tiny_tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="session")
def smollm2_base(smollm2_gguf):
    """SmolLM2 as a loadable base model, dequantised once into the user's cache."""
    from finetune import base_model
    from finetune.config import BaseModelConfig

    return base_model.make_loadable(
        base_model.identify(str(smollm2_gguf)), BaseModelConfig(ref=str(smollm2_gguf))
    )


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_base.weights)


@pytest.fixture
def rows_file(tmp_path):
    """Twenty alpaca rows about adding numbers."""
    import json

    path = tmp_path / "rows.jsonl"
    rows = (
        {"instruction": f"add {n}", "output": f"def add(a):\n    return a + {n}"} for n in range(20)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def command(tmp_path):
    """Run `python -m finetune` with its own home; returns the finished process."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "finetune", *map(str, arguments)],
            cwd=tmp_path,
            env=command_environment(tmp_path) | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    run.environment = command_environment(tmp_path)
    return run


def command_environment(home):
    return os.environ | {"EDGESMITH_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}


GEMMA_CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
GEMMA_CUT_OUT = ("<table>", "</b>", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "  ", "   ", "    ")
GEMMA_JOINED = (
    "re",
    "▁a",
    "tu",
    "rn",
    "retu",
    "turn",
    "return",
    "▁return",
    "de",
    "def",
    "ef",
    "12",
)


def _gemma_vocabulary():
    """Return (piece, score, type) of a small vocabulary with all that Gemma's has."""
    letters = sorted(set("▁defabcdrtunhliogsxyz0123456789+-=#:(),._<>/é日本語🙂"))
    normal = [*GEMMA_JOINED, *letters]
    return (
        [(piece, -1000.0, 3) for piece in GEMMA_CONTROL]
        + [(piece, -1000.0, 4) for piece in GEMMA_CUT_OUT]
        + [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
        + [(piece, float(-rank), 1) for rank, piece in enumerate(normal)]
    )


def _gemma_tensors(num_pieces):
    """Yield (name, array) of six layers, so that one of them looks further than the window."""
    import numpy as np

    rng = np.random.default_rng(0)
    width, inner, head = 32, 64, 256  # the head size that Gemma's attention is scaled for

    def weight(*shape):
        return rng.normal(size=shape).astype(np.float32) * 0.2

    yield "token_embd.weight", weight(num_pieces, width)
    yield "output_norm.weight", 1 + weight(width)
    shapes = {"attn_q": (head, width), "attn_k": (head, width), "attn_v": (head, width)}
    shapes |= {"attn_output": (width, head), "ffn_gate": (inner, width), "ffn_up": (inner, width)}
    shapes |= {"ffn_down": (width, inner)}
    norms = {"attn_norm": width, "post_attention_norm": width, "ffn_norm": width}
    norms |= {"post_ffw_norm": width, "attn_q_norm": head, "attn_k_norm": head}
    for layer in range(6):
        for name, shape in shapes.items():
            yield f"blk.{layer}.{name}.weight", weight(*shape)
        for name, size in norms.items():
            yield f"blk.{layer}.{name}.weight", 1 + weight(size)


@pytest.fixture(scope="session")
def tiny_gemma_gguf(tmp_path_factory):
    """A random Gemma 3 of six narrow layers in a GGUF, with a SentencePiece vocabulary."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gemma") / "tiny-gemma.gguf"
    writer = gguf.GGUFWriter(path, "gemma3")
    for name, value in {
        "context_length": 64,
        "embedding_length": 32,
        "block_count": 6,
        "feed_forward_length": 64,
        "attention.head_count": 1,
        "attention.head_count_kv": 1,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.sliding_window": 8,
    }.items():
        writer.add_uint32(f"gemma3.{name}", value)
    writer.add_float32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("gemma3.rope.freq_base", 1e6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    pieces, scores, types = zip(*_gemma_vocabulary(), strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(pieces))
    writer.add_token_scores(list(scores))
    writer.add_token_types(list(types))
    for name, token_id in {"padding": 0, "eos": 1, "bos": 2, "unknown": 3}.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token_id)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template("{{ messages }}")
    for name, array in _gemma_tensors(len(pieces)):
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
