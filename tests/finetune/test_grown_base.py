"""A longer vocabulary: old rows as they were, new rows near the words in the token's name."""

import json

import pytest

from finetune import base_model
from finetune.config import BaseModelConfig
from finetune.errors import BaseModelError
from finetune.grown_base import grow
from finetune.recipes.fim_tokens import ensure_fim_tokens

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def base(tiny_model):
    return base_model.make_loadable(base_model.identify(str(tiny_model)), BaseModelConfig())


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.grown_base.cache_folder", tmp_path.joinpath)


@pytest.fixture
def new_ids(tiny_tokenizer):
    """Ids past the 320 rows of the tiny model: its tokenizer has fewer tokens than that."""
    filler = [f"<|spare_{number}|>" for number in range(320 - len(tiny_tokenizer))]
    tiny_tokenizer.add_tokens(filler, special_tokens=True)
    return ensure_fim_tokens(tiny_tokenizer).new_ids


def test_rows_are_added_to_embedding_and_output_and_nothing_else_changes(
    base, tiny_tokenizer, new_ids
):
    grown = grow(base, tiny_tokenizer, new_ids)
    before = safetensors.load_file(base.weights / "model.safetensors")
    after = safetensors.load_file(grown.weights / "model.safetensors")
    assert before.keys() == after.keys()
    for name, old in before.items():
        grows = name in {"model.embed_tokens.weight", "lm_head.weight"}
        assert after[name].shape[0] == old.shape[0] + (3 if grows else 0), name
        assert torch.equal(after[name][: old.shape[0]], old)
    rows = after["model.embed_tokens.weight"][320:]
    assert not torch.equal(rows[0], rows[1])
    words = tiny_tokenizer("fim prefix", add_special_tokens=False)["input_ids"]
    expected = before["model.embed_tokens.weight"][words].mean(dim=0)
    torch.testing.assert_close(rows[0], expected)
    settings = json.loads((grown.weights / "config.json").read_text(encoding="utf-8"))
    assert settings["vocab_size"] == 323


def test_a_run_holds_the_grown_base_and_names_the_one_it_came_from(
    base, tiny_tokenizer, new_ids, tmp_path
):
    from transformers import AutoModelForCausalLM

    grown = grow(base, tiny_tokenizer, new_ids)
    entry = grown.manifest_entry()
    assert entry["path"] == "base_model"
    assert (entry["ref"], entry["sha256"]) == (base.source.ref, base.source.sha256)
    base_model.materialise(grown, tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "base_model")
    assert model.get_input_embeddings().num_embeddings == 323


def test_a_base_with_spare_rows_stays_as_it_is(base, tiny_tokenizer):
    tokens = ensure_fim_tokens(tiny_tokenizer)
    assert max(tokens.new_ids) < 320
    assert grow(base, tiny_tokenizer, tokens.new_ids) is base


def test_a_base_of_a_hub_becomes_one_of_the_runs_own(base, tiny_tokenizer, new_ids):
    from msgspec.structs import replace

    of_hub = replace(base, source=replace(base.source, kind="hub"))
    assert grow(of_hub, tiny_tokenizer, new_ids).manifest_entry()["kind"] == "hf_dir"


def test_a_base_that_does_not_state_its_vocabulary_is_refused(base, tiny_tokenizer, tmp_path):
    from msgspec.structs import replace

    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BaseModelError, match="names no vocab_size"):
        grow(replace(base, weights=tmp_path), tiny_tokenizer, (1,))
