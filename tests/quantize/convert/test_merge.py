"""A merge is exactly base + adapter, and anything that could not be is refused."""

import json
import shutil

import pytest

from quantize.convert.adapter import read_adapter
from quantize.convert.merge import INDEX, merge, shard_names
from quantize.convert.merge_proof import prove
from quantize.errors import MergeError, VerificationError

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def folders(tmp_path):
    """Write a base of two weights and a norm, an adapter on one of them, and a target."""
    base, adapter, target = (tmp_path / name for name in ("base", "adapter", "merged"))
    for folder in (base, adapter, target):
        folder.mkdir()
    torch.manual_seed(3)
    write_base(base, torch.float16)
    write_adapter(adapter)
    return base, adapter, target


def write_base(base, dtype):
    tensors = {
        "model.q_proj.weight": torch.randn(24, 16),
        "model.k_proj.weight": torch.randn(8, 16),
        "model.norm.weight": torch.ones(16),
    }
    safetensors.save_file(
        {name: tensor.to(dtype) for name, tensor in tensors.items()}, base / "model.safetensors"
    )
    (base / "config.json").write_text(json.dumps({"dtype": str(dtype).removeprefix("torch.")}))


def write_adapter(folder, *, size=0.1, extra=None, **config):
    tensors = {
        "base_model.model.model.q_proj.lora_A.weight": torch.randn(4, 16) * size,
        "base_model.model.model.q_proj.lora_B.weight": torch.randn(24, 4) * size,
    }
    safetensors.save_file(tensors | (extra or {}), folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def test_a_merge_changes_its_targets_by_the_adapter_and_nothing_else(folders):
    base, adapter_folder, target = folders
    adapter = read_adapter(adapter_folder)
    merge(base, adapter, target)
    proof = prove(base, adapter, target)
    assert (proof.num_changed_tensors, proof.num_unchanged_tensors) == (1, 2)
    assert proof.max_deviation_ulp < 0.51
    assert proof.retained_delta_share == pytest.approx(1, abs=0.05)
    before = safetensors.load_file(base / "model.safetensors")
    after = safetensors.load_file(target / "model.safetensors")
    lora = safetensors.load_file(adapter_folder / "adapter_model.safetensors")
    a_half, b_half = (lora[f"base_model.model.model.q_proj.lora_{s}.weight"].double() for s in "AB")
    exact = before["model.q_proj.weight"].double() + 2.0 * (b_half @ a_half)
    assert torch.equal(after["model.q_proj.weight"], exact.to(torch.float16))


@pytest.mark.parametrize(
    ("config", "factor"),
    [({}, 2.0), ({"use_rslora": True}, 4.0), ({"alpha_pattern": {"q_proj": 2}}, 0.5)],
)
def test_the_scale_follows_the_adapters_rule(folders, config, factor):
    _, adapter_folder, _ = folders
    write_adapter(adapter_folder, **config)
    (pair,) = read_adapter(adapter_folder).pairs.values()
    assert pair.scale == factor


def test_a_32_bit_base_becomes_float16_and_bfloat16_stays(folders):
    base, adapter_folder, target = folders
    write_base(base, torch.float32)
    assert merge(base, read_adapter(adapter_folder), target).dtype == "float16"
    prove(base, read_adapter(adapter_folder), target)
    write_base(base, torch.bfloat16)
    assert merge(base, read_adapter(adapter_folder), target).dtype == "bfloat16"
    prove(base, read_adapter(adapter_folder), target)


def test_shards_keep_their_names(folders):
    base, adapter_folder, target = folders
    tensors = safetensors.load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    shards = {"model.q_proj.weight": "a.safetensors", "model.norm.weight": "b.safetensors"}
    shards["model.k_proj.weight"] = "b.safetensors"
    for shard in set(shards.values()):
        part = {name: tensors[name] for name, file in shards.items() if file == shard}
        safetensors.save_file(part, base / shard)
    (base / INDEX).write_text(json.dumps({"weight_map": shards}))
    merge(base, read_adapter(adapter_folder), target)
    assert shard_names(target) == shard_names(base)
    prove(base, read_adapter(adapter_folder), target)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bias": "all"}, "bias terms"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"fan_in_fan_out": True}, "transposed"),
    ],
)
def test_an_adapter_without_an_exact_merge_is_refused_with_the_reason(folders, config, said):
    _, adapter_folder, _ = folders
    write_adapter(adapter_folder, **config)
    with pytest.raises(MergeError, match=said):
        read_adapter(adapter_folder)


def test_dora_brings_each_row_to_the_length_it_learnt(folders):
    base, adapter_folder, target = folders
    lengths = torch.rand(24) + 0.5
    extra = {"base_model.model.model.q_proj.lora_magnitude_vector": lengths}
    write_adapter(adapter_folder, extra=extra, use_dora=True)
    adapter = read_adapter(adapter_folder)
    merge(base, adapter, target)
    assert prove(base, adapter, target).num_changed_tensors == 1
    after = safetensors.load_file(target / "model.safetensors")["model.q_proj.weight"].float()
    torch.testing.assert_close(after.norm(dim=1), lengths, atol=2e-3, rtol=2e-3)


def test_saved_modules_and_trained_rows_replace_what_was_there(folders):
    base, adapter_folder, target = folders
    norm, rows = torch.randn(16), torch.randn(2, 16)
    extra = {
        "base_model.model.model.norm.weight": norm,
        "base_model.model.model.k_proj.token_adapter.trainable_tokens_delta": rows,
    }
    write_adapter(
        adapter_folder,
        extra=extra,
        modules_to_save=["norm"],
        trainable_token_indices={"k_proj": [5, 2]},
    )
    adapter = read_adapter(adapter_folder)
    merge(base, adapter, target)
    assert prove(base, adapter, target).num_changed_tensors == 3
    before = safetensors.load_file(base / "model.safetensors")["model.k_proj.weight"]
    after = safetensors.load_file(target / "model.safetensors")
    assert torch.equal(after["model.norm.weight"], norm.half())
    assert torch.equal(after["model.k_proj.weight"][[5, 2]], rows.half())
    kept = [0, 1, 3, 4, 6, 7]
    assert torch.equal(after["model.k_proj.weight"][kept], before[kept])


@pytest.mark.parametrize("name", ["model.norm.weight", "model.k_proj.weight"])
def test_a_replaced_weight_that_is_not_what_was_trained_is_caught(folders, name):
    base, adapter_folder, target = folders
    extra = {
        "base_model.model.model.norm.weight": torch.randn(16),
        "base_model.model.model.k_proj.token_adapter.trainable_tokens_delta": torch.randn(1, 16),
    }
    indices = {"k_proj": [3]}
    write_adapter(
        adapter_folder, extra=extra, modules_to_save=["norm"], trainable_token_indices=indices
    )
    adapter = read_adapter(adapter_folder)
    merge(base, adapter, target)
    tensors = safetensors.load_file(target / "model.safetensors")
    tensors[name].view(-1)[-1] += 0.01
    safetensors.save_file(tensors, target / "model.safetensors")
    with pytest.raises(VerificationError, match=name.replace(".", r"\.")):
        prove(base, adapter, target)


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"modules_to_save": ["norm"]},
        {"trainable_token_indices": [1]},
    ],
)
def test_an_adapter_without_what_its_configuration_promises_is_refused(folders, config):
    _, adapter_folder, _ = folders
    write_adapter(adapter_folder, **config)
    with pytest.raises(MergeError, match=f"configuration says: {next(iter(config))}"):
        read_adapter(adapter_folder)


def test_rows_past_the_bases_vocabulary_are_refused(folders):
    base, adapter_folder, target = folders
    name = "base_model.model.model.k_proj.token_adapter.trainable_tokens_delta"
    write_adapter(
        adapter_folder,
        extra={name: torch.randn(1, 16)},
        trainable_token_indices={"k_proj": [8]},
    )
    with pytest.raises(MergeError, match=r"tokens up to 8, .*is \(8, 16\): .*another base"):
        merge(base, read_adapter(adapter_folder), target)


VARIANTS = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "saved": {"modules_to_save": ["embed_tokens", "input_layernorm"]},
    "rows": {"trainable_token_indices": {"embed_tokens": [7, 9], "lm_head": [7, 9]}},
    "tied rows": {"trainable_token_indices": {"embed_tokens": [7, 9]}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_merges_as_peft_merges_it(tmp_path, variant):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    base, target = tmp_path / "base", tmp_path / "merged"
    target.mkdir()
    torch.manual_seed(5)
    shape = LlamaConfig(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=variant == "tied rows",
    )
    LlamaForCausalLM(shape).half().save_pretrained(base)
    loaded = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], **VARIANTS[variant])
    model = get_peft_model(loaded, settings)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(tmp_path / "adapter")
    adapter = read_adapter(tmp_path / "adapter")
    merge(base, adapter, target)
    prove(base, adapter, target)
    fresh = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(fresh, tmp_path / "adapter").merge_and_unload().state_dict()
    for name, mine in safetensors.load_file(target / "model.safetensors").items():
        torch.testing.assert_close(mine.float(), theirs[name], atol=1e-3, rtol=1e-3, msg=name)
    assert (adapter.beyond_lora() is None) == (variant == "rslora")


def test_a_tensor_that_is_no_lora_pair_is_named(folders):
    _, adapter_folder, _ = folders
    write_adapter(adapter_folder, extra={"base_model.model.embed.lora_embedding_A": torch.ones(2)})
    with pytest.raises(MergeError, match="lora_embedding_A"):
        read_adapter(adapter_folder)


def test_nan_in_the_base_is_named(folders):
    base, adapter_folder, target = folders
    tensors = safetensors.load_file(base / "model.safetensors")
    tensors["model.k_proj.weight"][1, 2] = float("nan")
    safetensors.save_file(tensors, base / "model.safetensors")
    with pytest.raises(MergeError, match=r"model\.k_proj\.weight holds NaN"):
        merge(base, read_adapter(adapter_folder), target)


def test_an_adapter_of_another_base_is_refused(folders):
    base, adapter_folder, target = folders
    safetensors.save_file({"model.q_proj.weight": torch.ones(5, 5)}, base / "model.safetensors")
    with pytest.raises(MergeError, match="another base"):
        merge(base, read_adapter(adapter_folder), target)
    safetensors.save_file({"model.v_proj.weight": torch.ones(5, 5)}, base / "model.safetensors")
    with pytest.raises(MergeError, match="does not have"):
        merge(base, read_adapter(adapter_folder), target)


def test_a_quantized_base_is_refused(folders):
    base, adapter_folder, target = folders
    (base / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
    with pytest.raises(MergeError, match="bitsandbytes"):
        merge(base, read_adapter(adapter_folder), target)


def test_an_unmerged_adapter_is_caught(folders):
    base, adapter_folder, target = folders
    shutil.copy(base / "model.safetensors", target / "model.safetensors")
    with pytest.raises(VerificationError, match=r"model\.q_proj\.weight"):
        prove(base, read_adapter(adapter_folder), target)


def test_a_zero_adapter_is_caught(folders):
    base, adapter_folder, target = folders
    write_adapter(adapter_folder, size=0.0)
    merge(base, read_adapter(adapter_folder), target)
    with pytest.raises(VerificationError, match="no weight changed"):
        prove(base, read_adapter(adapter_folder), target)


@pytest.mark.parametrize("name", ["model.k_proj.weight", "model.q_proj.weight"])
def test_one_changed_weight_anywhere_is_caught(folders, name):
    base, adapter_folder, target = folders
    merge(base, read_adapter(adapter_folder), target)
    tensors = safetensors.load_file(target / "model.safetensors")
    tensors[name][0, 0] += 0.01
    safetensors.save_file(tensors, target / "model.safetensors")
    with pytest.raises(VerificationError, match=name.replace(".", r"\.")):
        prove(base, read_adapter(adapter_folder), target)
