"""What is collected is what transformers' layers see and llama-imatrix finds, killed or not."""

import shutil
import subprocess

import gguf
import numpy as np
import pytest

from quantize.errors import ImatrixError
from quantize.imatrix import collect as imatrix_collect
from quantize.imatrix import file as imatrix
from quantize.imatrix.collect import collect
from quantize.llama.session import LlamaSession

SEQUENCES = [list(range(10, 74)), list(range(300, 333)), list(range(900, 905))]


@pytest.fixture(scope="module")
def entries(tiny_merged):
    return collect(tiny_merged / "f16.gguf", SEQUENCES, n_batch=32).entries


def test_sums_equal_those_of_the_layers_inputs_in_transformers(tiny_merged, entries):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_merged / "merged", dtype=torch.float32)
    seen: dict[str, torch.Tensor] = {}

    def watch(name):
        def hook(_layer, inputs):
            squares = inputs[0].double().square().sum(dim=(0, 1))
            seen[name] = seen.get(name, 0) + squares

        return hook

    layers = {
        "blk.0.attn_q.weight": model.model.layers[0].self_attn.q_proj,
        "blk.0.attn_output.weight": model.model.layers[0].self_attn.o_proj,
        "blk.1.ffn_up.weight": model.model.layers[1].mlp.up_proj,
        "blk.1.ffn_down.weight": model.model.layers[1].mlp.down_proj,
        "token_embd.weight": model.lm_head,
    }
    for name, layer in layers.items():
        layer.register_forward_pre_hook(watch(name))
    with torch.inference_mode():
        for ids in SEQUENCES:
            model(input_ids=torch.tensor([ids]))
    num_tokens = sum(map(len, SEQUENCES))
    for name, sums in seen.items():
        assert entries[name].counts.tolist() == [num_tokens]
        assert np.allclose(entries[name].sums[0], sums.numpy(), rtol=0.02), name


def test_every_weight_of_every_layer_is_seen(entries):
    kinds = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    wanted = {f"blk.{layer}.{kind}.weight" for layer in (0, 1) for kind in kinds}
    assert entries.keys() == wanted | {"token_embd.weight"}


def test_killed_between_sequences_it_goes_on_to_the_same_values(
    tiny_merged, entries, tmp_path, monkeypatch
):
    monkeypatch.setattr(imatrix_collect, "_CHECKPOINT_SECONDS", 0)
    kept, model = tmp_path / "unfinished.npz", tiny_merged / "f16.gguf"
    told = []

    def die_after_two(done, _all):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(model, SEQUENCES, n_batch=32, checkpoint=kept, on_sequence=die_after_two)
    resumed = collect(
        model,
        SEQUENCES,
        n_batch=32,
        checkpoint=kept,
        on_sequence=lambda done, _all: told.append(done),
    )
    assert told == [3]
    for name, entry in entries.items():
        assert np.array_equal(resumed.entries[name].sums, entry.sums), name
        assert np.array_equal(resumed.entries[name].counts, entry.counts), name
    resumed.forget()
    assert not kept.exists()


def test_a_checkpoint_of_another_text_is_not_taken_up(tiny_merged, tmp_path, monkeypatch):
    monkeypatch.setattr(imatrix_collect, "_CHECKPOINT_SECONDS", 0)
    kept, model = tmp_path / "unfinished.npz", tiny_merged / "f16.gguf"
    collect(model, SEQUENCES[:1], checkpoint=kept, identity="one")
    other = collect(model, SEQUENCES[1:2], checkpoint=kept, identity="other")
    assert other.entries["blk.0.attn_q.weight"].counts.tolist() == [len(SEQUENCES[1])]


def test_each_expert_is_credited_with_the_tokens_sent_to_it(tmp_path):
    model, num_tokens, num_chosen = _experts(tmp_path / "moe.gguf"), 40, 2
    ids = [int(i) for i in np.random.default_rng(1).integers(0, 128, num_tokens)]
    entries = collect(model, [ids], n_batch=num_tokens).entries
    gate, up = entries["blk.0.ffn_gate_exps.weight"], entries["blk.0.ffn_up_exps.weight"]
    router = entries["blk.0.ffn_gate_inp.weight"]
    assert gate.sums.shape == (4, 64)
    assert gate.counts.sum() == num_tokens * num_chosen
    assert len(set(gate.counts.tolist())) > 1
    assert np.array_equal(gate.sums, up.sums)
    assert np.allclose(gate.sums.sum(axis=0), num_chosen * router.sums[0])


def _experts(path):
    """Write one random layer of four experts, two of them used, without a vocabulary."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_vocab_size(128)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_tokenizer_model("no_vocab")
    shapes = {"token_embd": (128, 64), "output": (128, 64), "blk.0.ffn_gate_inp": (4, 64)}
    shapes |= {f"blk.0.attn_{name}": (64, 64) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate_exps": (4, 96, 64), "blk.0.ffn_up_exps": (4, 96, 64)}
    shapes |= {"blk.0.ffn_down_exps": (4, 64, 96)}
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.3, shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_no_text_is_refused(tiny_merged):
    with pytest.raises(ImatrixError, match="no text"):
        collect(tiny_merged / "f16.gguf", [])


def test_llama_imatrix_finds_the_same_on_the_same_tokens(tiny_merged, tmp_path):
    program = shutil.which("llama-imatrix")
    if program is None:
        pytest.skip("llama-imatrix is not on PATH")
    model, text = tiny_merged / "f16.gguf", tmp_path / "text.txt"
    text.write_text("def add(a, b):\n    return a + b\n\n" * 60)
    with LlamaSession(model, n_ctx=16) as session:
        ids = session.tokenize(text.read_text(), parse_special=False, add_special=True)
    chunks = [ids[start : start + 128] for start in range(0, len(ids) - 127, 128)]
    ours = collect(model, chunks, n_batch=128).entries
    command = [program, "-m", str(model), "-f", str(text), "-o", str(tmp_path / "theirs.gguf")]
    command += ["-c", "128", "-b", "128", "--no-ppl"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = imatrix.read(tmp_path / "theirs.gguf").entries
    assert len(theirs) == 14
    for name, entry in theirs.items():
        assert np.array_equal(ours[name].counts, entry.counts), name
        assert np.abs(ours[name].means() / entry.means() - 1).max() < 1e-3, name
