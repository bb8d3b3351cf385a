"""What --from names is told apart, and what cannot be used is refused with the reason."""

import json
import shutil

import pytest

from quantize.errors import RunError, SourceError
from quantize.source import model_name, resolve


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct@main", "SmolLM2-135M-Instruct"),
        ("packaged:SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("/models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-1.5b-instruct"),
        ("a b/", "a-b"),
        ("///", "model"),
    ],
)
def test_a_name_is_taken_from_any_reference(reference, name):
    assert model_name(reference) == name


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        resolve(str(tmp_path / "none"))


def test_an_unfinished_run_says_how_to_finish_it(tmp_path):
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(SourceError, match=r"unfinished run.*--resume"):
        resolve(str(tmp_path))


def test_a_bare_adapter_and_an_odd_folder_are_refused(tmp_path):
    with pytest.raises(SourceError, match="neither"):
        resolve(str(tmp_path))
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(SourceError, match="bare adapter"):
        resolve(str(tmp_path))


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SourceError, match="safetensors"):
        resolve(str(tmp_path))


def test_without_any_run_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    with pytest.raises(SourceError, match=r"python -m finetune"):
        resolve(None)


def test_the_newest_complete_run_is_taken(tiny_run, tmp_path, monkeypatch):
    root = tmp_path / "runs" / "finetune"
    shutil.copytree(tiny_run, root / "20261123T000000Z-aaaaaaaa")
    shutil.copytree(tiny_run, root / "20261123T000001Z-aaaaaaaa")
    shutil.copytree(tiny_run, root / "20261123T000002Z-aaaaaaaa")
    (root / "20261123T000002Z-aaaaaaaa" / "manifest.json").unlink()
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    source, said = resolve(None)
    assert source.path.name == "20261123T000001Z-aaaaaaaa"
    assert "newest" in said
    assert source.data_licences == ("PSF-2.0",)


def test_the_same_run_elsewhere_has_the_same_identity(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "copy")
    assert resolve(str(tmp_path / "copy"))[0].sha256 == resolve(str(tiny_run))[0].sha256


def test_a_changed_adapter_is_refused(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "copy")
    weights = tmp_path / "copy" / "adapter" / "adapter_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(SourceError, match=r"adapter_model\.safetensors is not the file"):
        resolve(str(tmp_path / "copy"))


def test_a_newer_manifest_is_refused_with_both_numbers(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "copy")
    path = tmp_path / "copy" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.raises(RunError, match="schema_version 2; this reader knows up to 1"):
        resolve(str(tmp_path / "copy"))


def test_a_quantize_run_is_no_source(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "copy")
    path = tmp_path / "copy" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stage": "quantize"}))
    with pytest.raises(SourceError, match="is a quantize run"):
        resolve(str(tmp_path / "copy"))


def test_a_quantized_gguf_is_known_as_such(smollm2_gguf):
    source, _ = resolve(str(smollm2_gguf))
    assert source.kind == "gguf"
    assert source.base_model.quantized_from == "Q4_1"
