"""Only whole, listed, unchanged files are trusted after an interruption."""

import pytest

from quantize.errors import RunError
from quantize.resume import Ledger, belongs_to, discard_partial, locked


def test_a_listed_file_is_trusted_by_the_next_process(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"whole")
    record = Ledger(tmp_path, "h").record(tmp_path / "a.gguf")
    assert Ledger(tmp_path, "h").valid(tmp_path / "a.gguf") == record


@pytest.mark.parametrize("content", [b"whol", b"wholE"])
def test_a_changed_file_is_not(tmp_path, content):
    (tmp_path / "a.gguf").write_bytes(b"whole")
    Ledger(tmp_path, "h").record(tmp_path / "a.gguf")
    (tmp_path / "a.gguf").write_bytes(content)
    assert Ledger(tmp_path, "h").valid(tmp_path / "a.gguf") is None


def test_an_unlisted_file_makes_a_folder_untrusted(tmp_path):
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "one").write_bytes(b"1")
    ledger = Ledger(tmp_path, "h")
    assert not ledger.valid_folder(folder)
    ledger.record(folder / "one")
    assert ledger.valid_folder(folder)
    (folder / "two").write_bytes(b"2")
    assert not ledger.valid_folder(folder)


def test_a_directory_of_another_configuration_is_not_resumed(tmp_path):
    Ledger(tmp_path, "mine")
    assert belongs_to(tmp_path, "mine")
    assert not belongs_to(tmp_path, "other")
    assert not belongs_to(tmp_path / "absent", "mine")


def test_half_written_things_are_removed(tmp_path):
    (tmp_path / "a.gguf.partial").write_bytes(b"half")
    (tmp_path / "merged.partial").mkdir()
    (tmp_path / "merged.partial" / "x").write_bytes(b"half")
    (tmp_path / "a.gguf").write_bytes(b"whole")
    discard_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_two_processes_do_not_share_a_run(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
