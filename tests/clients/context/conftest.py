import subprocess

import pytest


class Repository:
    """A folder under git, written to by tests."""

    def __init__(self, root) -> None:
        self.root = root
        self.git("init", "-q")

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def write(self, name: str, text: str):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "all")


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository(tmp_path)
