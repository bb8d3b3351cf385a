"""A GGUF adapter on the base says what the merged weights say; what it cannot carry is refused."""

import json
import shutil

import pytest

from quantize.convert.adapter import read_adapter
from quantize.convert.converter import convert_to_f16
from quantize.convert.hf_folder import assemble
from quantize.convert.lora_gguf import convert_adapter
from quantize.convert.merge import merge
from quantize.errors import ConversionError
from quantize.examples import ScoredText
from quantize.llama.session import LlamaSession
from quantize.perplexity import score, score_reference

TEXTS = [
    ScoredText(prompt_token_ids=list(range(20, 40)), response_token_ids=list(range(300, 330))),
    ScoredText(prompt_token_ids=list(range(700, 720)), response_token_ids=list(range(900, 930))),
]


def distance(base_gguf, adapter, tiny_model, tiny_run, tmp_path):
    """Return the KLD of adapter-on-base from the merged weights, and that of the base alone."""
    merged = tmp_path / "merged"
    merged.mkdir()
    counts = merge(tiny_model, read_adapter(adapter), merged)
    template = tiny_run / "chat_template.jinja"
    assemble(tiny_model, tiny_run / "tokenizer", template, merged, dtype=counts.dtype)
    together, lora, log = tmp_path / "merged.gguf", tmp_path / "lora.gguf", tmp_path / "log"
    convert_to_f16(merged, together, name="merged", log=log)
    convert_adapter(adapter, tiny_model, lora, log=log)
    with LlamaSession(together, n_ctx=64) as session:
        _, reference = score_reference(session, TEXTS)
    found = []
    for beside in (lora, None):
        with LlamaSession(base_gguf, n_ctx=64, adapter=beside) as session:
            found.append(score(session, TEXTS, reference).mean_kld_nats)
    reference.close()
    return found


def restated(adapter, tmp_path, **changes):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": True},
        {"alpha_pattern": {"down_proj": 3, "layers.0.self_attn.q_proj": 20}},
    ],
    ids=["rank-stabilised", "alphas of their own"],
)
def test_an_adapter_beside_the_base_says_what_the_merged_weights_say(
    base_gguf, tiny_model, tiny_run, tmp_path, changes
):
    adapter = restated(tiny_run / "adapter", tmp_path, **changes)
    beside, without = distance(base_gguf, adapter, tiny_model, tiny_run, tmp_path)
    assert beside < 1e-5
    assert without > 100 * beside


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ],
)
def test_what_a_gguf_adapter_cannot_carry_is_refused_with_the_reason(
    tiny_run, tiny_model, tmp_path, changes, reason
):
    adapter = restated(tiny_run / "adapter", tmp_path, **changes)
    with pytest.raises(ConversionError, match=f"no GGUF adapter can carry this: .*{reason}"):
        convert_adapter(adapter, tiny_model, tmp_path / "lora.gguf", log=tmp_path / "log")
    assert not (tmp_path / "lora.gguf").exists()
