"""The card says what the manifest says, and warns of what is unknown."""

import copy

from finetune.config import Config, to_plain
from finetune.model_card import FIGURES, model_card

MANIFEST = {
    "config": to_plain(Config()),
    "base_model": {
        "ref": "owner/base",
        "licence": "Apache-2.0",
        "sha256": "a" * 64,
        "quantized_from": None,
    },
    "inputs": [
        {"role": "base_model", "ref": "owner/base", "licence": "Apache-2.0", "sha256": "a" * 64},
        {"role": "data", "ref": "rows.json", "licence": None, "sha256": "b" * 64},
    ],
    "hardware": {"cpu": "a cpu", "num_cores": 2, "memory_bytes": 2**34, "gpu": None},
    "metrics": dict.fromkeys(FIGURES, 1.5),
}


def test_front_matter_names_base_data_and_licence():
    front = model_card(MANIFEST).split("---")[1]
    assert "base_model: owner/base\n" in front
    assert "license: apache-2.0\n" in front
    assert "datasets:\n  - rows.json\n" in front


def test_an_unknown_licence_is_a_warning():
    assert "the licence of rows.json is unknown" in model_card(MANIFEST)
    known = copy.deepcopy(MANIFEST)
    known["inputs"][1]["licence"] = "MIT"
    card = model_card(known)
    assert "Warning" not in card
    assert "| data rows.json | MIT |" in card


def test_a_base_out_of_a_quantized_file_is_said():
    quantized = copy.deepcopy(MANIFEST)
    quantized["base_model"]["quantized_from"] = "Q4_1"
    assert "came out of a Q4_1 file" in model_card(quantized)
    assert "came out of" not in model_card(MANIFEST)
