import json

import pytest

from clients.bench import model_file
from clients.errors import UsageError


def make_run(root, name, *, recommended=None, is_complete=True):
    run = root / "runs" / "quantize" / name
    run.mkdir(parents=True)
    outputs = []
    for size, file in enumerate(("m-q4_k_m.gguf", "m-q8_0.gguf"), start=1):
        (run / file).write_bytes(b"x" * size)
        outputs.append({"role": "gguf", "path": file})
    if is_complete:
        (run / "manifest.json").write_text(json.dumps({"outputs": outputs}))
    if recommended:
        (run / "recommendation.json").write_text(json.dumps({"file": recommended}))
    return run


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_newest_complete_run_gives_its_recommended_file(home):
    make_run(home, "20260101T000000Z-a")
    run = make_run(home, "20260102T000000Z-b", recommended="m-q8_0.gguf")
    make_run(home, "20260103T000000Z-c", is_complete=False)
    assert model_file.choose(None) == run / "m-q8_0.gguf"


def test_a_run_without_recommendation_gives_its_smallest_file(home):
    run = make_run(home, "20260101T000000Z-a")
    assert model_file.choose(str(run)) == run / "m-q4_k_m.gguf"


def test_a_file_is_taken_as_it_is(home):
    file = home / "m.gguf"
    file.write_bytes(b"x")
    assert model_file.choose(str(file)) == file


def test_without_a_run_the_packaged_model_is_taken(home, monkeypatch):
    file = home / "cache" / "edgesmith" / "models" / model_file.PACKAGED
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(home / "cache" / name))
    assert model_file.choose(None) == file


def test_nothing_to_serve_is_one_message_with_the_remedies(home, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(home / "cache" / name))
    with pytest.raises(UsageError, match=r"python -m quantize.*python -m finetune base.*--model"):
        model_file.choose(None)


def test_a_name_of_nothing_is_refused(home):
    with pytest.raises(UsageError, match="no GGUF and no complete quantize run"):
        model_file.choose(str(home / "none"))
