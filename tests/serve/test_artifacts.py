import json
from pathlib import Path

import pytest

from serve.artifacts import choose, measurements
from serve.errors import NoModelError


@pytest.fixture
def home(tmp_path):
    return {"EDGESMITH_HOME": str(tmp_path)}


def make_run(home, name, files=("m-f16.gguf",), *, complete=True, recommended=None, version=1):
    run = Path(home["EDGESMITH_HOME"]) / "runs" / "quantize" / name
    run.mkdir(parents=True)
    for file in files:
        (run / file).write_bytes(b"x" * (1 + len(file)))
    outputs = [{"role": "gguf", "path": file, "sha256": f"hash of {file}"} for file in files]
    if complete:
        manifest = {"schema_version": version, "outputs": outputs}
        (run / "manifest.json").write_text(json.dumps(manifest))
    if recommended:
        document = {"schema_version": 1, "file": recommended, "reason": "fits in 4 GB"}
        (run / "recommendation.json").write_text(json.dumps(document))
    return run


def test_the_recommended_file_of_the_newest_complete_run_is_served(home):
    files = ("m-q4_k_m.gguf", "m-q8_0.gguf")
    make_run(home, "20260101T000000Z-aaaaaaaa", files)
    newest = make_run(home, "20260102T000000Z-aaaaaaaa", files, recommended="m-q8_0.gguf")
    make_run(home, "20260103T000000Z-aaaaaaaa", complete=False)
    choice = choose(None, home)
    assert choice.path == newest / "m-q8_0.gguf"
    assert "fits in 4 GB" in choice.reason


def test_what_a_recommendation_was_asked_for_comes_with_the_file(home):
    run = make_run(home, "20260102T000000Z-aaaaaaaa", recommended="m-f16.gguf")
    asked = {"ram_bytes": 2**29, "context_tokens": 1024}
    document = json.loads((run / "recommendation.json").read_text())
    (run / "recommendation.json").write_text(json.dumps(document | asked))
    choice = choose(None, home)
    assert (choice.memory_bytes, choice.context_length) == (2**29, 1024)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("m-f16.gguf", "m-q4_0.gguf", "m-q4_k_m.gguf"), "m-q4_k_m.gguf"),
        (("m-f16.gguf", "m-q8_0.gguf"), "m-q8_0.gguf"),
        (("m-iq4_nl.gguf", "m-iq3_xxs-longer.gguf"), "m-iq4_nl.gguf"),
    ],
)
def test_without_a_recommendation_a_fixed_order_decides(home, files, expected):
    make_run(home, "20260101T000000Z-aaaaaaaa", files)
    assert choose(None, home).path.name == expected


def test_a_recommended_file_that_is_gone_falls_back_to_the_order(home):
    make_run(home, "20260101T000000Z-aaaaaaaa", recommended="m-gone.gguf")
    assert choose(None, home).path.name == "m-f16.gguf"


def test_a_run_or_a_file_may_be_named(home, tmp_path):
    run = make_run(home, "20260101T000000Z-aaaaaaaa")
    assert choose(str(run), {}).path == run / "m-f16.gguf"
    assert choose(str(run / "m-f16.gguf"), {}).path == run / "m-f16.gguf"


def test_the_current_directory_is_home_when_it_holds_runs(home, monkeypatch):
    run = make_run(home, "20260101T000000Z-aaaaaaaa")
    monkeypatch.chdir(home["EDGESMITH_HOME"])
    assert choose(None, {}).path == run / "m-f16.gguf"


def test_nothing_to_serve_says_where_was_looked_and_what_to_do(home, tmp_path):
    with pytest.raises(NoModelError, match=r"no complete quantize run in .*python -m quantize"):
        choose(None, home)
    with pytest.raises(NoModelError, match="no model file"):
        choose(str(tmp_path / "none.gguf"), home)
    with pytest.raises(NoModelError, match="did not finish"):
        choose(str(make_run(home, "20260101T000000Z-aaaaaaaa", complete=False)), home)
    with pytest.raises(NoModelError, match="holds no GGUF"):
        choose(str(make_run(home, "20260102T000000Z-aaaaaaaa", files=())), home)


def test_a_newer_schema_is_refused_with_both_numbers(home):
    make_run(home, "20260101T000000Z-aaaaaaaa", version=2)
    with pytest.raises(NoModelError, match=r"schema_version 2; this server reads 1"):
        choose(None, home)


def test_only_measurements_of_this_very_file_are_shown(home):
    run = make_run(home, "20260101T000000Z-aaaaaaaa", ("m-f16.gguf",))
    entries = [
        {"file": "m-f16.gguf", "file_sha256": "hash of m-f16.gguf", "figures": {"a": 1}},
        {"file": "m-f16.gguf", "file_sha256": "hash of an older file", "figures": {"a": 2}},
    ]
    document = {"schema_version": 1, "measurements": entries}
    (run / "measurements.json").write_text(json.dumps(document))
    assert [each["figures"] for each in measurements(run / "m-f16.gguf")] == [{"a": 1}]
    assert measurements(run / "other.gguf") == []
    (run / "measurements.json").write_text("not json")
    assert measurements(run / "m-f16.gguf") == []
