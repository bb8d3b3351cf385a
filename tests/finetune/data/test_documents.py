"""Plain texts and raw sources: what is read, what it is called, what is left out."""

import json

import pytest

from finetune.config import Config, TrainConfig
from finetune.data.documents import load_documents
from finetune.data.gate import pass_gate
from finetune.data.prepare import prepare
from finetune.data.settings import DataConfig
from finetune.data.sources import load_dataset
from finetune.errors import DataError
from finetune.recipes.fim import Gap
from finetune.recipes.passages import Passage
from finetune.recipes.settings import FimConfig

SPDX = "# SPDX-License-Identifier: MIT\n"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "project"
    for place, text in {
        "a.py": SPDX + "def first(value):\n    result = value + 1\n    return result\n",
        "sub/b.py": "def second(value):\n    result = value * 2\n    return result\n" * 9,
        "notes.md": "# Notes\n\nWater the plants on Monday.\n",
        "copy.md": "# Notes\n\nWater the plants on Monday.\n",
        ".git/config.py": "hidden = True\n",
        "node_modules/x.js": "var x = 1\n",
        "data.bin": "no text by its name",
        "empty.py": "\n",
    }.items():
        file = path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (path / "LICENSE").write_text("MIT License\n\nPermission is hereby granted", encoding="utf-8")
    return path


def test_a_folder_gives_its_texts_and_sources_and_says_what_it_left_out(folder):
    found = load_documents(folder)
    assert [document.name for document in found.documents] == [
        "a.py",
        "copy.md",
        "notes.md",
        "sub/b.py",
    ]
    assert found.formats == {
        ".py sources": 2,
        ".md texts": 2,
        "files left out: not UTF-8": 1,
    }
    assert found.licence == "MIT"


def test_suffixes_narrow_a_folder(folder):
    names = [document.name for document in load_documents(folder, (".md",)).documents]
    assert names == ["copy.md", "notes.md"]


def test_a_table_with_texts_is_plain_text(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "one"}\n{"content": "two"}\n', encoding="utf-8")
    found = load_documents(path)
    assert [document.text for document in found.documents] == ["one", "two"]
    assert found.formats == {"texts": 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.jsonl",
            '{"body": "x"}\n',
            "row 1: a plain text needs a field text or content",
        ),
        ("x.txt", "  \n", "holds no texts"),
        ("gone", None, "no such file or folder"),
    ],
)
def test_what_holds_no_text_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_documents(tmp_path / name)


def test_the_gate_sees_documents_drops_repeats_and_flags_licences(folder):
    config = DataConfig(source="texts", texts=(str(folder),))
    kept, report = pass_gate(load_dataset(config), config)
    assert len(kept.documents) == 3
    assert report.num_exact_duplicates == 1
    assert report.licence_notices == {"MIT": 1}


def test_texts_become_passages_and_sources_gaps_at_their_rate(folder, tiny_tokenizer):
    data = DataConfig(
        source="texts", texts=(str(folder),), fim=FimConfig(rate=1.0), max_heldout_examples=50
    )
    config = Config(data=data, train=TrainConfig(max_seq_length=64))
    prepared = prepare(load_dataset(data), tiny_tokenizer, config)
    items = prepared.train.examples + prepared.heldout.examples
    passages = [item for item in items if isinstance(item, Passage)]
    assert [passage.text for passage in passages] == ["# Notes\n\nWater the plants on Monday.\n"]
    assert sum(isinstance(item, Gap) for item in items) == 3  # repeats count once
    rows = prepared.train.encoded + prepared.heldout.encoded
    assert all(row.num_tokens <= 64 for row in rows)
    assert prepared.new_token_ids == prepared.fim_tokens.new_ids != ()


def test_conversations_keep_their_place_beside_gaps_from_their_code(rows_file, tiny_tokenizer):
    data = DataConfig(
        source="file",
        path=str(rows_file),
        max_train_tokens=0,
        fim=FimConfig(rate=0.5),
        max_heldout_examples=100,
    )
    config = Config(data=data, train=TrainConfig(max_seq_length=128))
    prepared = prepare(load_dataset(data), tiny_tokenizer, config)
    gaps = prepared.train.count(Gap) + prepared.heldout.count(Gap)
    assert len(prepared.train.examples) + len(prepared.heldout.examples) == 20 + gaps
    assert 4 < gaps < 16
    assert prepared.figures()["num_train_gaps"] == prepared.train.count(Gap)
    again = prepare(load_dataset(data), tiny_tokenizer, config)
    assert [item.id for item in again.train.examples] == [i.id for i in prepared.train.examples]
    code = {
        json.dumps(gap.prefix + gap.middle + gap.suffix)
        for gap in prepared.heldout.examples
        if isinstance(gap, Gap)
    }
    held = {
        json.dumps(item.messages[-1].content)
        for item in prepared.heldout.examples
        if not isinstance(item, Gap | Passage)
    }
    assert code <= held


def test_no_gaps_are_made_unless_asked_for(rows_file, tiny_tokenizer):
    data = DataConfig(source="file", path=str(rows_file))
    prepared = prepare(load_dataset(data), tiny_tokenizer, Config(data=data))
    assert prepared.train.count(Gap) == 0
    assert prepared.fim_tokens is None


def test_sources_and_examples_are_both_among_the_inputs(rows_file, folder):
    data = DataConfig(source="file", path=str(rows_file), licence="mit", texts=(str(folder),))
    dataset = load_dataset(data)
    assert [entry["ref"] for entry in dataset.input_entries()] == ["rows.jsonl", "project"]
    assert dataset.ref == "rows.jsonl + project"
    assert dataset.licence == "MIT"
