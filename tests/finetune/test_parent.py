"""A run that is gone on with: same base, same adapter shape, same template."""

import json
from pathlib import Path

import msgspec
import pytest

from finetune.base_model import BaseSource
from finetune.config import BaseModelConfig, Config, LoraConfig, TemplateConfig, to_plain
from finetune.errors import ConfigError, RunError
from finetune.parent import adopted, check_base, read_parent

EARLIER = Config(lora=LoraConfig(r=8), template=TemplateConfig(name="chatml"))


@pytest.fixture
def run(tmp_path):
    def make(**facts):
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(facts))
        manifest = {
            "schema_version": 1,
            "stage": "finetune",
            "config": to_plain(EARLIER),
            "base_model": {"ref": "tiny", "sha256": "a" * 64},
            "inputs": [{"role": "base_model"}, {"role": "data", "ref": "rows"}],
            "outputs": [{"role": "adapter", "sha256": "b" * 64, "size_bytes": 3}],
        }
        (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return read_parent(str(tmp_path))

    return make


def test_shape_and_template_are_those_of_the_first_run(run, tmp_path):
    config = adopted(Config(base_model=BaseModelConfig(adapter="here")), run())
    assert (config.lora, config.template) == (EARLIER.lora, EARLIER.template)
    assert config.base_model.adapter == str(tmp_path.resolve())
    assert adopted(config, run_again(tmp_path)) == config


def run_again(path):
    return read_parent(str(path))


@pytest.mark.parametrize(
    "wish", [{"lora": LoraConfig(r=4)}, {"template": TemplateConfig(name="alpaca")}]
)
def test_another_shape_or_template_is_refused(run, wish):
    with pytest.raises(ConfigError, match=r"differs from that of .*; leave it out"):
        adopted(msgspec.structs.replace(Config(), **wish), run())


def test_another_base_is_refused_with_both_names(run):
    source = BaseSource(ref="other", kind="hf_dir", path=Path(), sha256="c" * 64, size_bytes=1)
    with pytest.raises(ConfigError, match=r"is other, but the adapter .* was made for tiny"):
        check_base(run(), source)


def test_what_the_first_run_learnt_from_stays_known(run):
    roles = [(entry["role"], entry["ref"]) for entry in run().input_entries()]
    assert [role for role, _ in roles] == ["finetune_run", "data"]
    assert roles[1] == ("data", "rows")


def test_an_adapter_with_new_tokens_is_refused_with_the_remedy(run):
    with pytest.raises(RunError, match=r"has learnt new tokens.*start from the merged folder"):
        run(trainable_token_indices={"embed_tokens": [5]})


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no finished run"):
        read_parent(str(tmp_path))
