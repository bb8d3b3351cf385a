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
