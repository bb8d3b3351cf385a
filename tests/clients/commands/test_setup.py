"""`setup` as a command: what it shows, writes, keeps and refuses."""

import json

import pytest

from clients.__main__ import main
from clients.editors.places import Places


@pytest.fixture
def home(tmp_path, monkeypatch):
    here = Places(tmp_path, "linux", {})
    monkeypatch.setattr(Places, "here", classmethod(lambda cls: here))
    monkeypatch.delenv("EDGESMITH_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def setup(home, fake_server):
    return lambda *words: main(["setup", *words, "--base-url", fake_server.base_url])


def test_the_diff_is_shown_and_a_backup_kept(setup, home, fake_server, capsys):
    file = home / ".config/zed/settings.json"
    file.parent.mkdir(parents=True)
    before = '{\r\n  // mine\r\n  "vim_mode": true\r\n}\r\n'
    file.write_bytes(before.encode())
    file.chmod(0o600)
    assert setup("zed", "--yes") == 0
    out, err = capsys.readouterr()
    assert '+  "language_models": {' in out
    after = file.read_bytes().decode()
    assert '  // mine\r\n  "vim_mode": true,\r\n' in after
    assert fake_server.base_url in after
    assert "\n" not in after.replace("\r\n", "")
    (backup,) = file.parent.glob("*.bak")
    assert backup.read_bytes() == before.encode()
    assert str(backup) in err
    assert (file.stat().st_mode & 0o777, backup.stat().st_mode & 0o777) == (0o600, 0o600)


def test_a_second_run_changes_nothing(setup, home, capsys):
    assert setup("opencode", "--yes") == 0
    capsys.readouterr()
    assert setup("opencode", "--yes") == 0
    assert capsys.readouterr().out == ""
    assert list(home.rglob("*.bak")) == []


def test_without_consent_nothing_is_written(setup, home, capsys):
    assert setup("llm") == 1
    assert "--yes" in capsys.readouterr().err
    assert list(home.iterdir()) == []


def test_print_only_prints(setup, home, capsys):
    assert setup("codex", "--print") == 0
    out = capsys.readouterr().out
    assert 'model = "tiny"' in out
    assert "model_context_window = 2048" in out
    assert list(home.iterdir()) == []


def test_a_key_is_never_written(setup, home, fake_server, monkeypatch):
    fake_server.api_key = "sesame"
    monkeypatch.setenv("EDGESMITH_API_KEY", "sesame")
    for editor in ("continue", "zed", "aider", "codex", "claude-code", "opencode", "llm", "vim"):
        assert setup(editor, "--yes") == 0
    written = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not any("sesame" in text for text in written)


def test_a_link_stays_a_link(setup, home, tmp_path):
    kept = tmp_path / "dotfiles.json"
    kept.write_text("{}")
    link = home / ".claude/edgesmith.json"
    link.parent.mkdir()
    link.symlink_to(kept)
    assert setup("claude-code", "--yes") == 0
    assert link.is_symlink()
    assert json.loads(kept.read_text())["env"]["ANTHROPIC_MODEL"] == "tiny"


def test_mistakes_are_said_in_one_line(setup, home, capsys):
    file = home / ".config/zed/settings.json"
    file.parent.mkdir(parents=True)
    file.write_text("{ nonsense")
    assert setup("zed", "--yes") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert file.read_text() == "{ nonsense"
    assert setup("zed", "--model", "absent") == 2
    assert "absent" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        setup("emacs")
    assert stopped.value.code == 2
