"""What stands around merged weights is what was trained; a fault planted there is named."""

import json
import shutil

import pytest

from quantize.verify.cases import CASES
from quantize.verify.merged import check_folder


@pytest.fixture
def merged(tiny_merged, tmp_path):
    """Copy the merged folder without its weights, to be spoilt."""
    folder = tmp_path / "merged"
    shutil.copytree(tiny_merged / "merged", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def wrong_template(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("assistant", "assistent"))


def swapped_eos(folder):
    edit(folder / "tokenizer_config.json", lambda held: held.update(eos_token="<|im_start|>"))


def wrong_rope_base(folder):
    edit(folder / "config.json", lambda held: held.update(rope_theta=1.0, rope_parameters=None))


def doubled_bos(folder):
    bos = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
        },
    }
    edit(folder / "tokenizer.json", lambda held: held.update(post_processor=template))


def other_splits(folder):
    def cut(held):
        held["model"]["merges"] = held["model"]["merges"][:200]

    edit(folder / "tokenizer.json", cut)


def test_a_sound_folder_passes(tiny_model, tiny_run, merged):
    checks = check_folder(tiny_model, tiny_run, merged, CASES)
    assert [check.detail for check in checks if not check.passed] == []
    assert {check.hop for check in checks} == {"base+adapter -> merged"}
    assert len(checks) == 4


@pytest.mark.parametrize(
    ("spoil", "first"),
    [
        (wrong_template, ("chat template", "first difference at character 134")),
        (swapped_eos, ("special tokens", "eos_token_id is 2 as trained and 1 in the merged")),
        (wrong_rope_base, ("configuration", "rope_")),
        (doubled_bos, ("prompts and token ids", "plain: ")),
        (other_splits, ("prompts and token ids", "plain: token ")),
    ],
)
def test_a_fault_around_the_weights_is_caught(tiny_model, tiny_run, merged, spoil, first):
    spoil(merged)
    checks = check_folder(tiny_model, tiny_run, merged, CASES[:2])
    failed = next(check for check in checks if not check.passed)
    name, said = first
    assert failed.name == name
    assert said in failed.detail


def test_cases_that_the_template_refuses_are_not_counted_and_none_compared_is_no_pass(
    tiny_model, tiny_run, merged
):
    import msgspec

    odd = msgspec.structs.replace(CASES[0], messages=[{"role": "user"}])
    check = check_folder(tiny_model, tiny_run, merged, [*CASES[:2], odd])[-1]
    assert check.passed
    assert check.detail == "2 prompts equal; the template takes 1 others not"
    check = check_folder(tiny_model, tiny_run, merged, [odd])[-1]
    assert not check.passed
    assert check.detail.startswith("0 prompts equal")


def test_a_conversation_refused_after_the_merge_alone_is_a_difference(tiny_model, tiny_run, merged):
    template = merged / "chat_template.jinja"
    template.write_text("{{ raise_exception('no roles') }}")
    check = check_folder(tiny_model, tiny_run, merged, CASES[:1])[-1]
    assert not check.passed
    assert check.detail.startswith("plain: taken as trained and refused by the merged folder: ")
