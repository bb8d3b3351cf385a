"""A fault planted on any hop is caught, and named with its first difference."""

import json
import re
import shutil

import numpy as np
import pytest

from quantize.config import VerifyConfig
from quantize.convert.adapter import read_adapter
from quantize.examples import read_examples
from quantize.llama.gguf_header import read_header
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.progress import Steps
from quantize.verify.bounds import bound_of
from quantize.verify.gate import Verification, compare_files, passed, verify, write
from quantize.verify.logits import Answer, compare_greedy
from quantize.verify.prompts import compare_metadata
from quantize.verify.quants import check_quants
from quantize.verify.texts import Chain, scored_texts
from quantize.verify.weights import compare_weights

CONFIG = VerifyConfig(num_prompts=2, scored_tokens=48, server=False)


@pytest.fixture(scope="module")
def chain(tiny_merged, tiny_run, tiny_model):
    """Name merged weights and two files of them, all sound."""
    quantize_file(
        tiny_merged / "f16.gguf", tiny_merged / "q8_0.gguf", TypeChoice(quant_type=table()["q8_0"])
    )
    return Chain(
        merged=tiny_merged / "merged",
        reference=tiny_merged / "f16.gguf",
        quants=(tiny_merged / "q8_0.gguf",),
        base=tiny_model,
        tuned=tiny_run,
        adapter=read_adapter(tiny_run / "adapter"),
        conversations=tuple(read_examples(tiny_run / "heldout.jsonl")),
    )


def failure(chain: Chain) -> tuple[str, str, str]:
    checked = verify(chain, CONFIG, Steps())
    assert not checked.passed
    check = next(check for check in checked.checks if not check.passed)
    return check.hop, check.name, check.detail


def converted(chain: Chain, **changed) -> Chain:
    """Return only the hop from the merged folder to its file, with something changed."""
    return Chain(
        **{
            "merged": chain.merged,
            "reference": chain.reference,
            "quants": (),
            "conversations": chain.conversations,
        }
        | changed
    )


def test_a_sound_chain_passes_every_check(chain, tmp_path):
    checked = verify(chain, CONFIG, Steps())
    assert not [check for check in checked.checks if not check.passed]
    assert {check.hop for check in checked.checks} == {
        "base+adapter -> merged",
        "merged -> f16.gguf",
        "base -> tuned",
        "f16.gguf -> q8_0.gguf",
    }
    assert [absent.reason for absent in checked.not_run] == ["verify.server is false"]
    write(tmp_path, checked)
    assert passed(tmp_path)
    assert not passed(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("fault", "name", "said"),
    [
        ("wrong template", "chat template", "first difference at character 134"),
        ("swapped EOS", "special tokens", "eos is 2 in the tokenizer and 1 in the GGUF"),
        ("unwanted BOS", "special tokens", "bos is 1 in the tokenizer and 0 in the GGUF"),
        ("wrong rope base", "logits", "top-1 agreement"),
        ("permuted head", "logits", "top-1 agreement"),
    ],
)
def test_a_fault_of_the_conversion_is_caught(chain, faulty, fault, name, said):
    hop, found, detail = failure(converted(chain, reference=faulty(chain.reference, fault)))
    assert (hop, found) == ("merged -> f16.gguf", name)
    assert said in detail


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("wrong template", "tokenizer.chat_template: "),
        ("swapped EOS", "tokenizer.ggml.eos_token_id: 2 became 1"),
        ("unwanted BOS", "tokenizer.ggml.add_bos_token: "),
        ("wrong rope base", "llama.rope.freq_base: "),
    ],
)
def test_metadata_changed_in_one_type_is_caught(chain, faulty, fault, said):
    other = faulty(chain.quants[0], fault)
    check = compare_metadata(read_header(chain.reference), read_header(other))
    assert not check.passed
    assert check.hop == "f16.gguf -> q8_0.gguf"
    assert check.detail.startswith(said)


@pytest.mark.parametrize("name", ["q8_0", "q4_0", "q3_k_s", "q2_k", "iq2_xs", "tq2_0"])
def test_a_permuted_head_and_swapped_layers_are_told_from_rounding_in_every_type(
    chain, faulty, tmp_path, name
):
    sound = tmp_path / "sound" / f"{name}.gguf"
    sound.parent.mkdir()
    header = read_header(chain.reference)
    widths = {t.name: t.shape[0] for t in header.tensors if len(t.shape) > 1}
    means = {each: np.linspace(0.1, 3, width, dtype=np.float32) for each, width in widths.items()}
    choice = TypeChoice(quant_type=table()[name])
    quantize_file(chain.reference, sound, choice, imatrix=means)
    assert compare_weights(header, read_header(sound)).passed
    for fault in ("permuted head", "swapped layers"):
        check = compare_weights(header, read_header(faulty(sound, fault)))
        assert not check.passed
        assert (check.hop, check.name) == (f"f16.gguf -> {name}.gguf", "weights")
        assert re.match(r"blk\.[01]\.\w+\.weight \(\w+\): rows differ .* by \d{3}", check.detail)


def test_weights_are_compared_on_the_hop_to_each_type(chain, faulty):
    quants, texts = [faulty(chain.quants[0], "permuted head")], scored_texts(chain, CONFIG)
    failed = [
        check
        for check in check_quants(chain.reference, quants, texts, 512, Steps())
        if not check.passed
    ]
    assert [check.name for check in failed] == ["weights", "logits"]
    assert {check.hop for check in failed} == {"f16.gguf -> q8_0.gguf"}
    assert failed[0].detail.startswith("blk.0.attn_v.weight (q8_0)")
    assert "for q8_0)" in failed[1].detail


def test_a_file_of_the_base_alone_is_caught_on_either_hop(chain, base_gguf, tmp_path):
    hop, name, _ = failure(converted(chain, reference=base_gguf))
    assert (hop, name) == ("merged -> base.gguf", "logits")
    small = tmp_path / "q8_0.gguf"
    quantize_file(base_gguf, small, TypeChoice(quant_type=table()["q8_0"]))
    texts = scored_texts(chain, CONFIG)
    failed = [
        c for c in check_quants(chain.reference, (small,), texts, 512, Steps()) if not c.passed
    ]
    assert {check.hop for check in failed} == {"f16.gguf -> q8_0.gguf"}
    assert [check.name for check in failed] == ["weights", "logits"]


def test_a_file_that_doubles_the_bos_is_caught(chain, tmp_path):
    raw = chain.reference.read_bytes()
    key = b"tokenizer.ggml.add_bos_token"
    found = raw.index(key) + len(key) + 4
    flipped = raw[:found] + b"\x01" + raw[found + 1 :]
    path = tmp_path / chain.reference.name
    path.write_bytes(flipped)
    hop, name, detail = failure(converted(chain, reference=path))
    assert (hop, name) == ("merged -> f16.gguf", "BOS")
    assert detail == "the GGUF puts a BOS in front of plain text and the tokenizer does not"


def test_a_template_that_doubles_the_bos_on_both_sides_is_caught(chain, tmp_path):
    from quantize.convert.hf_folder import load_tokenizer
    from quantize.llama.session import LlamaSession
    from quantize.verify.tokens import compare_bos

    with LlamaSession(chain.reference, n_ctx=16, n_batch=16) as session:
        tokenizer = load_tokenizer(chain.merged)
        doubled = compare_bos("hop", tokenizer, session, ["<|im_start|><|im_start|>user\nhi"])
    assert not doubled.passed
    assert doubled.detail == "prompt 1 begins with 2 BOS tokens, not 1"


def test_a_stop_token_that_the_file_does_not_know_is_caught(chain, tmp_path):
    merged = tmp_path / "merged"
    shutil.copytree(chain.merged, merged)
    settings = json.loads((merged / "generation_config.json").read_text())
    (merged / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [2, 9]}))
    hop, name, detail = failure(converted(chain, merged=merged))
    assert (hop, name) == ("merged -> f16.gguf", "stop set")
    assert "9 (" in detail
    assert "ends no generation" in detail


def test_an_unmerged_adapter_is_caught(chain, tmp_path):
    merged = tmp_path / "merged"
    shutil.copytree(chain.merged, merged)
    shutil.copy(chain.base / "model.safetensors", merged / "model.safetensors")
    unmerged = converted(chain, merged=merged, base=chain.base, adapter=chain.adapter)
    hop, _, detail = failure(unmerged)
    assert hop == "base+adapter -> merged"
    assert "weight[" in detail


def test_a_tokenizer_that_splits_otherwise_is_caught(chain, tmp_path):
    merged = tmp_path / "merged"
    shutil.copytree(chain.merged, merged)
    tokenizer = json.loads((merged / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:200]
    (merged / "tokenizer.json").write_text(json.dumps(tokenizer))
    hop, name, detail = failure(converted(chain, merged=merged))
    assert (hop, name) == ("merged -> f16.gguf", "prompts and token ids")
    assert "in the tokenizer and" in detail


def test_a_greedy_difference_passes_only_where_both_sides_were_nearly_tied():
    class Fixed:
        n_vocab = 3

        def reset(self):
            pass

        def decode(self, token_ids, *, first_logits):
            yield np.array([[1.0, 0.95, 0.0]] * (len(token_ids) - first_logits), dtype=np.float32)

    def said(token_id, gap):
        answer = Answer(prompt=[5], token_ids=[token_id], gaps=[gap], logits=None)
        equal = Answer(prompt=[5], token_ids=[0], gaps=[0.0], logits=None)
        return compare_greedy("hop", Fixed(), [equal] * 9 + [answer], CONFIG)

    assert said(1, 0.05).passed
    assert said(1, 0.05).detail == "9 of 10 prompts equal for 16 tokens"
    assert not said(1, 0.5).passed
    check = said(2, 0.05)
    assert not check.passed
    assert check.detail.endswith("2 after the hop, 1.000 logits apart before and 0.050 after")


def test_the_coarsest_type_of_a_mix_decides_its_bound(chain, tmp_path):
    kinds = {"blk.0.ffn_up.weight": "q2_k", "blk.1.attn_k.weight": "iq1_s"}
    choice = TypeChoice(quant_type=table()["q8_0"], tensor_types=kinds)
    path, ones = tmp_path / "mix.gguf", {"blk.1.attn_k.weight": np.ones(256, dtype=np.float32)}
    quantize_file(chain.reference, path, choice, imatrix=ones)
    assert bound_of(read_header(path))[0] == "q2_k"  # a tenth of the layers and more; iq1_s less


def test_a_changed_file_of_a_run_is_named(tmp_path):
    from quantize.run import OutputRecord

    (tmp_path / "a.gguf").write_bytes(b"x")
    record = OutputRecord(role="gguf", path="a.gguf", sha256="0" * 64, size_bytes=1)
    check = compare_files(tmp_path, [record])
    assert not check.passed
    assert "a.gguf" in check.detail


def test_the_first_failure_is_raised_with_hop_case_and_difference():
    from quantize.errors import VerificationError
    from quantize.verify.result import Check

    bad = Check(hop="a -> b", name="case", passed=False, detail="1 became 2")
    with pytest.raises(VerificationError, match="hop a -> b: case: 1 became 2"):
        Verification(passed=False, checks=(bad,)).require()
