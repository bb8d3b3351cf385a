"""The configuration: what is accepted, what is refused and how it says so."""

from pathlib import Path

import pytest

from finetune.__main__ import read_config
from finetune.config import Config, load_config, to_plain, to_toml
from finetune.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "finetune" / "configs"


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "c.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_the_embedded_default_is_what_an_empty_file_means(write):
    assert read_config(None, []) == load_config(write(""), []) == Config()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_configuration_parses(path):
    assert isinstance(load_config(path, []), Config)


def test_an_unknown_key_gets_a_suggestion(write):
    path = write("[train]\nlearnign_rate = 1e-4\n")
    with pytest.raises(ConfigError, match=r"`train.learnign_rate` \(did you mean `train.learning_"):
        load_config(path, [])


def test_an_unknown_table_gets_a_suggestion(write):
    with pytest.raises(ConfigError, match=r"`trian` \(did you mean `train`\?\)"):
        load_config(write("[trian]\n"), [])


def test_a_key_like_no_other_lists_the_known_ones(write):
    with pytest.raises(ConfigError, match="known here: r, alpha"):
        load_config(write("[lora]\nzzzz = 1\n"), [])


@pytest.mark.parametrize(
    ("override", "table", "key", "value"),
    [
        ("train.learning_rate=1e-4", "train", "learning_rate", 1e-4),
        ("train.epochs=2", "train", "epochs", 2.0),
        ("train.packing=true", "train", "packing", True),
        ("data.path=rows.jsonl", "data", "path", "rows.jsonl"),
        ("base_model.ref = owner/name@abc", "base_model", "ref", "owner/name@abc"),
        ('lora.target_modules=["q_proj"]', "lora", "target_modules", ("q_proj",)),
    ],
)
def test_set_takes_the_type_of_its_key(write, override, table, key, value):
    config = load_config(write(""), [override])
    assert getattr(getattr(config, table), key) == value


def test_set_wins_over_the_file_and_leaves_its_neighbours(write):
    config = load_config(write("[lora]\nr = 4\nalpha = 5\n"), ["lora.r=8"])
    assert (config.lora.r, config.lora.alpha) == (8, 5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch_size", "write KEY=VALUE"),
        ("train=3", "is a table"),
        ("train.bach_size=1", "did you mean `train.batch_size`"),
        ("train.batch_size=many", "Expected `int`, got `str`.*train.batch_size"),
        ("train.batch_size=0", "train.batch_size is 0; it must be at least 1"),
        ("data.source=folder", "with --set data.source=folder: .*; choose from .*stdlib"),
        ("train.packing=no", "choose from auto, true, false"),
        ("data.source=file", "data.path is not set"),
        ("data.source=hub", "data.ref"),
        ("data.heldout_fraction=1.5", "between 0 and 1"),
        ("train.epochs=0", "train.epochs or train.max_steps"),
    ],
)
def test_a_wrong_override_is_named(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(""), [override])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.toml: no such configuration file"):
        load_config(tmp_path / "absent.toml", [])


def test_broken_toml_is_named_with_its_line(write):
    with pytest.raises(ConfigError, match=r"not TOML.*line 1"):
        load_config(write("= 3"), [])


def test_the_effective_configuration_survives_the_way_through_toml(write):
    config = load_config(write(""), ["data.source=file", "data.path=x.json", "lora.r=3"])
    again = load_config(write(to_toml(config)), [])
    assert to_plain(again) == to_plain(config)
