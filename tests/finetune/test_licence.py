"""Licences are read where they are stated, and unknown ones stay unknown."""

import pytest

from finetune.licence import licence_of_card, licence_of_folder, normalise


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("apache-2.0", "Apache-2.0"),
        (" MIT ", "MIT"),
        ("llama3.2", "llama3.2"),
        ("unknown", None),
        ("other", None),
        ("", None),
        (None, None),
    ],
)
def test_names_are_spelt_the_spdx_way(stated, name):
    assert normalise(stated) == name


def test_a_card_states_its_licence_in_the_front_matter():
    assert licence_of_card("---\ntags: []\nlicense: 'mit'\n---\nlicense: no") == "MIT"


def test_an_other_licence_is_known_by_its_name():
    assert licence_of_card("---\nlicense: other\nlicense_name: gemma\n---\n") == "gemma"


def test_text_without_front_matter_states_none():
    assert licence_of_card("license: mit") is None


def test_a_licence_file_is_recognised_by_its_opening(tmp_path):
    assert licence_of_folder(tmp_path) is None
    text = "                  Apache License\n            Version 2.0, January 2004"
    (tmp_path / "LICENSE").write_text(text, encoding="utf-8")
    assert licence_of_folder(tmp_path) == "Apache-2.0"
