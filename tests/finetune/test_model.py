"""Each LoRA variant of the configuration reaches PEFT; a process of its own loads Unsloth once."""

import json
import subprocess
import sys

import pytest

from finetune.config import Config, LoraConfig, TrainConfig
from finetune.errors import ConfigError
from finetune.model import load_model

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
from pathlib import Path
from finetune.config import Config, LoraConfig
from finetune.errors import ConfigError
from finetune.libraries import import_unsloth
from finetune.model import load_model

fast_model, found = import_unsloth(), {}
variants = json.loads(sys.argv[2])
for name, settings in variants.items():
    new = settings.pop("new_token_ids", ())
    config = Config(lora=LoraConfig(r=4, alpha=8, target_modules=("q_proj",), **settings))
    try:
        model = load_model(fast_model, Path(sys.argv[1]), config, new_token_ids=new)
    except ConfigError as error:
        found[name] = str(error)
        continue
    peft = model.peft_config["default"]
    found[name] = {
        "use_dora": peft.use_dora,
        "use_rslora": peft.use_rslora,
        "modules_to_save": sorted(peft.modules_to_save or []),
        "rows": {k: list(v) for k, v in (peft.trainable_token_indices or {}).items()},
        "trained": sorted(
            n for n, p in model.named_parameters() if p.requires_grad and "lora_A" not in n
            and "lora_B" not in n
        ),
        "scaling": model.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"],
    }
print(json.dumps(found))
"""
VARIANTS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "saved": {"modules_to_save": ["embed_tokens", "norm"]},
    "rows": {"new_token_ids": [317, 318, 319]},
    "wrong": {"modules_to_save": ["no_such_module"]},
}


@pytest.fixture(scope="module")
def loaded(tiny_model, tmp_path_factory):
    """What PEFT was given for each variant."""
    from os import environ
    from pathlib import Path

    home = tmp_path_factory.mktemp("home")
    environment = environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_model), json.dumps(VARIANTS)],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_plain_lora_trains_nothing_else(loaded):
    assert loaded["plain"]["trained"] == []
    assert loaded["plain"]["scaling"] == 2.0


def test_rslora_divides_by_the_root_of_the_rank(loaded):
    assert loaded["rslora"]["use_rslora"]
    assert loaded["rslora"]["scaling"] == 4.0


def test_dora_trains_a_length_for_each_row(loaded):
    assert loaded["dora"]["use_dora"]
    assert len(loaded["dora"]["trained"]) == 2
    assert all("lora_magnitude_vector" in name for name in loaded["dora"]["trained"])


def test_modules_to_save_are_trained_whole(loaded):
    saved = loaded["saved"]
    assert saved["modules_to_save"] == ["embed_tokens", "norm"]
    trained = [name.split(".")[-4] for name in saved["trained"]]
    norms = ["input_layernorm", "post_attention_layernorm"] * 2  # the ends of their names say norm
    assert trained == ["embed_tokens", *norms, "norm"]


def test_new_tokens_train_their_rows_of_both_matrices(loaded):
    assert loaded["rows"]["rows"] == {"embed_tokens": [317, 318, 319], "lm_head": [317, 318, 319]}
    assert all("trainable_tokens_delta" in name for name in loaded["rows"]["trained"])


def test_a_module_that_does_not_exist_is_named(loaded):
    assert "lora.modules_to_save" in loaded["wrong"]
    assert "no_such_module" in loaded["wrong"]


def test_qlora_without_a_gpu_is_refused_with_the_setting(tiny_model):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU, where 4-bit training works")
    config = Config(train=TrainConfig(load_in_4bit=True), lora=LoraConfig())
    with pytest.raises(ConfigError, match=r"train.load_in_4bit is true but there is no GPU"):
        load_model(None, tiny_model, config)
