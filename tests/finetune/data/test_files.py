"""Every table format gives the same rows, and what is wrong is named with its place."""

import gzip
import json

import pytest

from finetune.data.files import read_rows
from finetune.errors import DataError

ROWS = [{"prompt": "a, b", "completion": "c\nd"}, {"prompt": "é", "completion": "2"}]


def rows_of(path):
    return [row for _, row in read_rows(path)]


def write(folder, name):
    path = folder / name
    text = "\n".join(json.dumps(row) for row in ROWS)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".json"):
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif name.endswith(".csv"):
        path.write_text('prompt,completion\n"a, b","c\nd"\né,2\n', encoding="utf-8")
    elif name.endswith(".tsv"):
        path.write_text('prompt\tcompletion\na, b\t"c\nd"\né\t2\n', encoding="utf-8")
    elif name.endswith(".parquet"):
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv", "a.parquet"])
def test_all_formats_hold_the_same_rows(tmp_path, name):
    assert rows_of(write(tmp_path, name)) == ROWS


def test_a_folder_is_all_its_tables_by_path(tmp_path):
    (tmp_path / "z").mkdir()
    for name in ("b.csv", "a.jsonl"):
        write(tmp_path, name)
    write(tmp_path / "z", "a.parquet")
    (tmp_path / "notes.txt").write_text("not data", encoding="utf-8")
    assert rows_of(tmp_path) == ROWS * 3


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no data files; expected \.json"):
        rows_of(tmp_path)


def test_a_csv_row_of_the_wrong_width_is_named_by_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na,b\nc,d,e\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv, line 3: 3 fields under a header of 2; quote"):
        rows_of(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.parquet", "is no Parquet file"), ("a.jsonl.gz", "is no whole gzip file")],
)
def test_a_broken_file_is_named(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match=message):
        rows_of(tmp_path / name)
