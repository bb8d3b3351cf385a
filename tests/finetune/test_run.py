"""Run directories: the manifest alone makes them complete."""

import json

import pytest

from finetune.errors import RunError
from finetune.fingerprint import sha256_json
from finetune.home import runs_root
from finetune.run import Run, create_run, same_runs

HASH = sha256_json({"a": 1})


def finish(run, config_hash=HASH, version=1):
    run.complete({"schema_version": version, "config_hash": config_hash})


def test_a_run_is_named_by_time_and_hash(tmp_path):
    run = create_run(tmp_path, HASH)
    stamp, dash, digest = run.path.name.partition("-")
    assert (run.path.parent.name, len(stamp), dash, digest) == ("finetune", 16, "-", HASH[:8])


def test_two_runs_in_one_second_get_two_directories(tmp_path):
    assert create_run(tmp_path, HASH).path != create_run(tmp_path, HASH).path


def test_only_a_manifest_makes_a_run_complete(tmp_path):
    run = create_run(tmp_path, HASH)
    (run.path / "manifest.json.partial").write_text("{", encoding="utf-8")
    assert same_runs(tmp_path, HASH)[0] is None
    assert [found.path for found in same_runs(tmp_path, HASH)[1]] == [run.path]
    finish(run)
    complete, unfinished = same_runs(tmp_path, HASH)
    assert complete is not None
    assert (complete.path, unfinished) == (run.path, [])


def test_completing_leaves_no_partial_file(tmp_path):
    run = create_run(tmp_path, HASH)
    finish(run)
    assert [path.name for path in run.path.iterdir()] == ["manifest.json"]


def test_the_newest_of_equal_runs_is_found(tmp_path):
    runs = [create_run(tmp_path, HASH) for _ in range(3)]
    for run in runs:
        finish(run)
    complete, _ = same_runs(tmp_path, HASH)
    assert complete is not None
    assert complete.path == max(run.path for run in runs)


def test_eight_equal_digits_are_not_an_equal_hash(tmp_path):
    finish(create_run(tmp_path, HASH), config_hash=HASH[:8] + "0" * 56)
    assert same_runs(tmp_path, HASH)[0] is None


def test_a_newer_schema_is_refused_with_both_numbers(tmp_path):
    finish(create_run(tmp_path, HASH), version=2)
    with pytest.raises(RunError, match="schema_version 2; this program reads 1"):
        same_runs(tmp_path, HASH)


def test_a_torn_last_log_line_is_skipped(tmp_path):
    run = create_run(tmp_path, HASH)
    run.log("step", step=1)
    with (run.path / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"event": "step", "st')
    assert [event["step"] for event in run.events("step")] == [1]


def test_outputs_are_listed_by_role_with_forward_slashes(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_bytes(b"abc")
    (tmp_path / "log.jsonl").write_text("{}", encoding="utf-8")
    (entry,) = Run(tmp_path).outputs({"adapter": "lora"})
    assert (entry["role"], entry["path"], entry["size_bytes"]) == ("lora", "adapter/weights", 3)


def test_the_hash_ignores_the_order_of_keys():
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json(json.loads('{"b":[2],"a":1}'))


def test_home_prefers_the_variable_then_runs_here_then_the_user_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGESMITH_HOME", raising=False)
    assert runs_root()[1] == "user data directory"
    (tmp_path / "runs").mkdir()
    assert runs_root() == (tmp_path / "runs", "./runs exists")
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path / "home"))
    assert runs_root() == (tmp_path / "home" / "runs", "EDGESMITH_HOME")
