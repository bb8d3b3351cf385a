"""A configuration is read strictly, and only its shaping part enters the hash."""

import pytest

from quantize.config import DEFAULT_TYPES, load_config
from quantize.errors import ConfigError


def test_without_a_file_the_defaults_hold():
    assert load_config(None, []).types == DEFAULT_TYPES


def test_an_override_reaches_a_nested_key():
    assert load_config(None, ["measure.scored_tokens=64"]).measure.scored_tokens == 64


def test_types_are_read_from_the_flag_and_from_set_alike():
    by_flag = load_config(None, [], "f16, q8_0")
    by_set = load_config(None, ["types=f16,q8_0"])
    assert by_flag.types == by_set.types == ("f16", "q8_0")


def test_an_override_wins_over_the_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('name = "here"\n[measure]\nscored_tokens = 9\ndecode_tokens = 3\n')
    config = load_config(file, ["measure.scored_tokens=10"])
    assert (config.name, config.measure.scored_tokens, config.measure.decode_tokens) == (
        "here",
        10,
        3,
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("measure.scored_token=1", "did you mean measure.scored_tokens?"),
        ("typse=f16", "did you mean types?"),
        ("zzz=1", "known here"),
        ("measure.scored_tokens=0", "at least 1"),
        ("measure.max_example_tokens=2", "at least 16"),
        ("merge.dtype=float8", "Invalid enum value"),
        ("name", "not of the form"),
        ("name.first=1", "configuration"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_name(override, said):
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        load_config(None, [override])


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml", [])
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "bad.toml", [])


def test_how_a_file_is_measured_does_not_change_what_is_made():
    one = load_config(None, ["measure.scored_tokens=9", "verify.num_prompts=1"])
    assert one.shaping() == load_config(None, []).shaping()
    assert load_config(None, ["types=f16"]).shaping() != one.shaping()
