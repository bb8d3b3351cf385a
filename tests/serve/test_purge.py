"""Where prefixes are kept over restarts, and their deletion."""

from pathlib import Path

import pytest

from serve.__main__ import main
from serve.engine.config import EngineConfig
from serve.purge import cache_folder, purge, with_cache_folder


def stored(folder: Path) -> list[Path]:
    files = [folder / "model" / "one.state", folder / "model" / "two.tmp"]
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.write_bytes(b"12345")
    (folder / "model" / "notes.txt").write_text("somebody else's")
    return files


def test_everything_stored_and_nothing_else_is_deleted(tmp_path):
    files = stored(tmp_path)
    assert purge(tmp_path) == (2, 10)
    assert not any(file.exists() for file in files)
    assert (tmp_path / "model" / "notes.txt").exists()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert purge(tmp_path / "none") == (0, 0)


def test_the_command_says_what_it_deleted(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    stored(tmp_path / "cache" / "prefixes")
    assert main(["purge"]) == 0
    assert "deleted 2 files" in capsys.readouterr().out


def test_a_configured_folder_wins(tmp_path):
    engine = EngineConfig(model="m", cache_folder=str(tmp_path))
    assert cache_folder(engine, {"EDGESMITH_HOME": "/elsewhere"}) == tmp_path


def test_prefixes_are_kept_in_the_users_cache_unless_told_otherwise():
    kept = with_cache_folder(EngineConfig(model="m"), {})
    assert kept.cache_folder is not None
    assert Path(kept.cache_folder).name == "prefixes"


@pytest.mark.parametrize("off", ["cache_disk_bytes", "cache_memory_bytes"])
def test_a_tier_that_is_turned_off_gets_no_folder(off):
    assert with_cache_folder(EngineConfig(model="m", **{off: 0}), {}).cache_folder is None
