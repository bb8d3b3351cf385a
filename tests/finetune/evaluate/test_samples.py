"""Answers on disk: continued, mended, told apart by settings."""

import pytest

from finetune.errors import EvaluationError
from finetune.evaluate.samples import Sample, append, read


def sample(task_id, settings="s"):
    return Sample(task_id=task_id, completion="x\n", settings=settings)


def test_answers_come_back_and_a_line_cut_short_is_removed(tmp_path):
    file = tmp_path / "base.jsonl"
    append(file, [sample("a"), sample("b")])
    with file.open("ab") as stream:
        stream.write(b'{"task_id": "c", "compl')
    assert [item.task_id for item in read(file, "s")] == ["a", "b"]
    append(file, [sample("c")])
    assert [item.task_id for item in read(file, "s")] == ["a", "b", "c"]


def test_a_file_with_nothing_but_half_a_line_starts_anew(tmp_path):
    file = tmp_path / "base.jsonl"
    file.write_bytes(b'{"task')
    assert read(file, "s") == []
    assert file.read_bytes() == b""


def test_answers_of_other_settings_are_not_mixed(tmp_path):
    file = tmp_path / "base.jsonl"
    append(file, [sample("a", "max_tokens=8")])
    with pytest.raises(EvaluationError, match="begun with other settings"):
        read(file, "max_tokens=9")


def test_another_kind_of_file_is_refused(tmp_path):
    file = tmp_path / "base.jsonl"
    file.write_text('{"x": 1}\n', encoding="utf-8")
    with pytest.raises(EvaluationError, match="a line that is no sample"):
        read(file, "s")
