import json
import subprocess

import pytest

from clients import staged
from clients.__main__ import main
from clients.errors import ClientError


def git(folder, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path, monkeypatch, fake_server):
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Ann")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "ann@example.org")
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    fake_server.words = ["Set x\n\n", "It was missing."]
    return tmp_path


@pytest.fixture
def commit(fake_server):
    return lambda *flags: main(["commit", "--base-url", fake_server.base_url, *flags])


def test_an_empty_index_is_refused_before_anything_is_asked(
    repository, commit, fake_server, capsys
):
    assert commit() == 2
    assert "nothing is staged" in capsys.readouterr().err
    assert fake_server.requests == []


def test_outside_a_repository_git_says_so(tmp_path, monkeypatch, commit, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == 2
    err = capsys.readouterr().err
    assert err.startswith("error: git ")
    assert "Traceback" not in err


def test_only_what_is_staged_is_read_and_only_the_message_written(
    repository, commit, fake_server, capsys
):
    git(repository, "add", "a.py")
    (repository / "a.py").write_text("unstaged = 2\n")
    assert commit() == 0
    assert capsys.readouterr().out == "Set x\n\nIt was missing.\n"
    asked = fake_server.bodies("/v1/chat/completions")[0]["messages"][1]["content"]
    assert "+x = 1" in asked
    assert "unstaged" not in asked
    assert subprocess.run(["git", "rev-parse", "HEAD"], check=False, capture_output=True).returncode


def test_with_consent_the_index_is_committed_with_the_message(repository, commit, capsys):
    git(repository, "add", "a.py")
    assert commit("--apply", "--yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert git(repository, "log", "-1", "--format=%H%n%B").split("\n", 1) == [
        found["commit"],
        "Set x\n\nIt was missing.\n\n",
    ]


def test_without_consent_nothing_is_committed(repository, commit, capsys):
    git(repository, "add", "a.py")
    assert commit("--apply", "--json") == 0
    assert json.loads(capsys.readouterr().out)["commit"] is None
    assert commit("--yes") == 2
    assert git(repository, "status", "--porcelain") == "A  a.py\n"


def test_an_index_that_changed_meanwhile_is_not_committed(
    repository, commit, fake_server, capsys, monkeypatch
):
    git(repository, "add", "a.py")
    read = staged.message_of

    def meanwhile(*answer):
        (repository / "b.py").write_text("y = 2\n")
        git(repository, "add", "b.py")
        return read(*answer)

    monkeypatch.setattr(staged, "message_of", meanwhile)
    assert commit("--apply", "--yes") == 2
    assert "changed meanwhile" in capsys.readouterr().err
    assert git(repository, "status", "--porcelain") == "A  a.py\nA  b.py\n"


def test_every_file_keeps_a_share_of_a_long_difference():
    def part(name: str, lines: int) -> str:
        return f"diff --git a/{name} b/{name}\n" + f"+{name} line\n" * lines

    short = staged.shortened(part("big", 500) + part("small", 3) + part("huge", 900), 1000)
    assert len(short) < 1200
    assert part("small", 3) in short
    assert short.count("left out") == 2
    assert [short.index(f"a/{name}") for name in ("big", "small", "huge")] == sorted(
        short.index(f"a/{name}") for name in ("big", "small", "huge")
    )
    whole = part("one", 2) + part("two", 2)
    assert staged.shortened(whole, 1000) == whole


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("Add x", "Add x\n"),
        ("```\nAdd x\n\nWhy.\n```", "Add x\n\nWhy.\n"),
        ('"Add x"\n', "Add x\n"),
        ("Add x\nWhy.  ", "Add x\n\nWhy.\n"),
    ],
)
def test_the_message_is_taken_out_of_its_wrapping(answer, message):
    assert staged.message_of(answer, "stop") == message


@pytest.mark.parametrize(("answer", "reason"), [("Add x and", "length"), ("  \n", "stop")])
def test_an_answer_that_is_no_whole_message_is_refused(answer, reason):
    with pytest.raises(ClientError):
        staged.message_of(answer, reason)
