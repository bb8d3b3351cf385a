"""Data sources: files are read with exact complaints, the library is the same every time."""

import json

import pytest

from finetune.config import DataConfig
from finetune.data.sources import load_dataset
from finetune.data.stdlib_functions import functions_in
from finetune.errors import DataError, HubError

ROWS = [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(3)]


def load(path, **settings):
    return load_dataset(DataConfig(source="file", path=str(path), **settings))


def test_a_list_and_lines_of_the_same_rows_hold_the_same_examples(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    lines = "\n\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    assert load(tmp_path / "a.json").examples == load(tmp_path / "a.jsonl").examples


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.jsonl cannot be read: No such file"):
        load(tmp_path / "gone.jsonl")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "e.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"e.jsonl holds no examples"):
        load(tmp_path / "e.jsonl")


def test_a_wrong_row_is_named_by_file_and_row(tmp_path):
    rows = [json.dumps(ROWS[0]), '{"prompt": "p", "answer": "x"}']
    (tmp_path / "b.jsonl").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"b.jsonl, row 2: .*missing completion.*prompt, answer"):
        load(tmp_path / "b.jsonl")


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "b.jsonl").write_text(json.dumps(ROWS[0]) + "\n{oops\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b.jsonl, row 2 is not JSON"):
        load(tmp_path / "b.jsonl")


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        load(tmp_path / "b.jsonl")


def test_the_identity_of_a_file_is_its_bytes(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS), encoding="utf-8")
    before = load(path, licence="mit")
    path.write_text(json.dumps(ROWS[:2]), encoding="utf-8")
    assert (before.licence, before.ref) == ("MIT", "a.json")
    assert before.sha256 != load(path).sha256


def test_the_development_alpaca_file_is_read(shared_data):
    dataset = load(shared_data / "codealpaca_python_subset.json")
    assert len(dataset.examples) > 1000


def test_the_standard_library_is_the_same_every_time():
    first, second = (load_dataset(DataConfig()) for _ in range(2))
    assert first == second
    assert first.licence == "PSF-2.0"
    assert len(first.examples) > 500


def test_a_function_is_asked_for_by_signature_and_docstring():
    text = '''
class A:
    def double(self, value: int) -> int:
        """Return twice the value."""

        result = value * 2
        return result
'''
    (example,) = functions_in(text)
    question, answer = (turn.content for turn in example.messages)
    assert 'def double(self, value: int) -> int:\n    """Return twice the value."""' in question
    assert answer == (
        "```python\ndef double(self, value: int) -> int:\n    result = value * 2\n"
        "    return result\n```"
    )


@pytest.mark.parametrize(
    "text",
    [
        "def f(:",
        "def f():\n    return 1 + 2\n",
        'def f():\n    """Too short a body."""\n    return 1\n',
        'def f(): "all on one line"; a = 1; return a\n',
    ],
)
def test_what_teaches_nothing_is_left_out(text):
    assert list(functions_in(text)) == []


def test_a_hub_data_set_without_a_hub_gets_one_clear_message(monkeypatch):
    import datasets
    from huggingface_hub.errors import OfflineModeIsEnabled

    def refuse(*_, **__):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(HubError, match="owner/set is not on this machine and the hub cannot be"):
        load_dataset(DataConfig(source="hub", ref="owner/set"))


def test_a_hub_data_set_brings_rows_and_the_licence_of_its_card(monkeypatch, tmp_path):
    import datasets
    import huggingface_hub

    card = tmp_path / "README.md"
    card.write_text("---\nlicense: cc-by-4.0\n---\n", encoding="utf-8")
    table = datasets.Dataset.from_list(ROWS)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(card))
    dataset = load_dataset(DataConfig(source="hub", ref="owner/set", revision="v1"))
    assert (dataset.ref, dataset.licence) == ("owner/set@v1", "CC-BY-4.0")
    assert [example.messages[1].content for example in dataset.examples] == ["c0", "c1", "c2"]


def test_an_unknown_hub_data_set_says_what_to_do(monkeypatch):
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    def refuse(*_, **__):
        raise DatasetNotFoundError("no")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"check https://huggingface.co/datasets/owner/set.*HF_TOK"):
        load_dataset(DataConfig(source="hub", ref="owner/set"))
