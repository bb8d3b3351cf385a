"""What can be asked for by which name."""

import struct

import pytest

from serve.catalogue import Catalogue
from serve.config import EngineSettings, ListedModel, ModelSettings, ModelsSettings, Settings
from serve.engine.config import AdapterConfig
from serve.errors import ConfigError


def write_gguf(path, **texts):
    """Write a GGUF of string metadata and no tensors."""
    pairs = b""
    for key, value in texts.items():
        for text in (key.replace("_", ".").encode(), None, value.encode()):
            pairs += struct.pack("<I", 8) if text is None else struct.pack("<Q", len(text)) + text
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(texts)) + pairs)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b", "deep/a", "big-00001-of-00002", "big-00002-of-00002"):
        write_gguf(tmp_path / f"{name}.gguf", general_architecture="llama")
    write_gguf(tmp_path / "lora.gguf", general_type="adapter")
    return tmp_path


def names(**fields):
    return Catalogue(Settings(**fields), None).names


def test_a_folder_is_searched_below_without_adapters_and_later_parts(folder):
    found = Catalogue(Settings(models=ModelsSettings(folder=str(folder))), None)
    assert found.names == ["b", "big-00001-of-00002", "a"]
    write_gguf(folder / "new.gguf", general_architecture="llama")
    assert found.find("new").spec.path == folder / "new.gguf"
    assert found.find("nothing") is None


def test_the_first_model_and_listed_ones_come_before_the_folder(folder):
    listed = ListedModel(file=str(folder / "b.gguf"), name="mine", context_length=512)
    models = ModelsSettings(folder=str(folder), files=(listed,))
    settings = Settings(model=ModelSettings(alias="main"), models=models)
    found = Catalogue(settings, folder / "deep" / "a.gguf")
    assert found.names == ["main", "mine", "big-00001-of-00002"]
    assert found.default.name == "main"
    assert found.find("mine:latest").spec.engine.context_length == 512


def test_one_name_answers_to_any_and_several_only_to_theirs(folder):
    path = folder / "b.gguf"
    one = Catalogue(Settings(), path)
    assert one.find("gpt-4").name == "b"
    assert one.find("gpt-4", exact=True) is None
    engine = EngineSettings(adapters=(AdapterConfig(name="odd", file="odd.gguf", scale=0.5),))
    two = Catalogue(Settings(engine=engine), path)
    assert two.find("gpt-4") is None
    assert two.find("odd").mix == ((0, 0.5),)
    assert two.find(None).mix is None


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (ModelsSettings(folder="/nowhere"), "which is no folder"),
        (ModelsSettings(files=(ListedModel(file="/no.gguf"),)), "which is no file"),
    ],
)
def test_what_is_not_there_is_told_with_its_setting(models, words):
    with pytest.raises(ConfigError, match=words):
        Catalogue(Settings(models=models), None)


def test_an_empty_folder_and_two_of_one_name_are_refused(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="there is no GGUF"):
        names(models=ModelsSettings(folder=str(empty)))
    twice = (ListedModel(file=str(folder / "b.gguf")),) * 2
    with pytest.raises(ConfigError, match="two models are named 'b'"):
        names(models=ModelsSettings(files=twice))
