"""Which 16-bit type a card trains in, and what is compiled."""

import os
import sys
from types import ModuleType

import pytest

from finetune import arguments, libraries

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_cards_that_only_emulate_bfloat16_train_in_float16(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(arguments, "gpu_name", lambda: "some card")
    assert libraries.half_precision() is getattr(torch, expected)
    chosen = arguments._precision()
    assert chosen == {"bf16": expected == "bfloat16", "fp16": expected == "float16"}


def test_a_cpu_trains_in_full_precision(monkeypatch):
    monkeypatch.setattr(arguments, "gpu_name", lambda: None)
    assert arguments._precision() == {"bf16": False, "fp16": False}


@pytest.mark.parametrize(("family", "setting"), [("gemma3", "1"), ("llama", None), (None, None)])
def test_a_family_that_is_slow_to_compile_is_not_compiled(monkeypatch, tmp_path, family, setting):
    fake = ModuleType("unsloth")
    fake.FastLanguageModel = object()
    monkeypatch.setitem(sys.modules, "unsloth", fake)
    monkeypatch.setattr(os, "environ", os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    os.environ.pop("UNSLOTH_COMPILE_DISABLE", None)
    assert libraries.import_unsloth(family) is fake.FastLanguageModel
    assert os.environ.get("UNSLOTH_COMPILE_DISABLE") == setting
