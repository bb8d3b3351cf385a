import os

import pytest

from clients.context.neighbours import Neighbour, gather, opened_files
from clients.context.recent import edited_regions

MAIN = "from lib import tool\nimport other\n\ntool()\n"
LONG = "".join(f"line_{n} = {n}\n" for n in range(1, 41))


@pytest.fixture
def main(repository):
    """Return a committed file that imports two others; three more lie beside it."""
    repository.write("lib.py", "def tool(a):\n    return a\n\n\ndef unused():\n    return 2\n")
    repository.write("other.py", "def rest():\n    return 3\n")
    for name in ("a.py", "b.py"):
        repository.write(name, LONG)
    path = repository.write("main.py", MAIN)
    repository.commit()
    return path


def touch(path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def names(context) -> list[str]:
    return [each.filename for each in context.neighbours]


def test_imports_come_as_outlines_of_the_names_wanted(main):
    found = gather(main, MAIN, (), max_tokens=500)
    assert found.neighbours == (
        Neighbour(filename="lib.py", text="def tool(a):\n    ...\n"),
        Neighbour(filename="other.py", text="def rest():\n    ...\n"),
    )


def test_what_changes_least_comes_first_and_the_newest_edit_last(main, repository):
    for name, seconds in (("b.py", 1000), ("a.py", 2000)):
        touch(repository.write(name, LONG.replace("line_20 =", "edited_20 =")), seconds)
    opened = [Neighbour(filename="open.py", text="o = 1\n")]
    found = gather(main, MAIN, opened, max_tokens=1000)
    assert names(found) == ["lib.py", "other.py", "open.py", "b.py", "a.py"]
    assert found.neighbours[-1].text.splitlines()[3] == "edited_20 = 20"
    assert len(found.neighbours[-1].text.splitlines()) == 7


def test_an_edit_elsewhere_leaves_the_beginning_as_it_was(main, repository):
    touch(repository.write("a.py", LONG.replace("line_9 ", "edited_9 ")), 1000)
    before = gather(main, MAIN, (), max_tokens=1000).neighbours
    touch(repository.write("b.py", LONG.replace("line_9 ", "edited_9 ")), 2000)
    after = gather(main, MAIN, (), max_tokens=1000).neighbours
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_the_budget_holds_whole_pieces_and_says_what_it_left_out(main, repository):
    repository.write("a.py", LONG.replace("line_9 ", "edited_9 "))
    found = gather(main, MAIN, (), max_tokens=40)
    assert names(found) == ["lib.py", "other.py"]
    assert found.num_tokens <= 40
    assert found.left_out == ("a.py",)
    assert gather(main, MAIN, (), max_tokens=0).neighbours == ()


def test_what_was_asked_for_always_goes_along_and_once(main, repository):
    repository.write("lib.py", "changed = 1\n")
    opened = opened_files([(repository.root / "lib.py", "changed = 1\n")], repository.root)
    found = gather(main, MAIN, opened, max_tokens=0)
    assert names(found) == ["lib.py"]
    assert found.neighbours[0].text == "changed = 1\n"


def test_the_file_itself_is_no_neighbour(main, repository):
    main.write_text(MAIN + "edited = 1\n")
    assert "main.py" not in names(gather(main, main.read_text(), (), max_tokens=1000))


def test_files_that_are_no_text_are_passed_over(main, repository):
    (repository.root / "other.py").write_bytes(b"x = '\xe9'\n")
    repository.commit()
    assert names(gather(main, MAIN, (), max_tokens=1000)) == ["lib.py"]


def test_deleted_binary_and_strangely_named_files_are_told_apart(repository):
    repository.write("gone.py", "x = 1\n")
    repository.write("with blank é.py", "x = 1\n")
    (repository.root / "image.bin").write_bytes(bytes(range(256)))
    repository.commit()
    (repository.root / "gone.py").unlink()
    (repository.root / "image.bin").write_bytes(bytes(range(255, -1, -1)))
    repository.write("with blank é.py", "x = 1\ny = 2\n")
    (region,) = edited_regions(repository.root)
    assert (region.path.name, region.line) == ("with blank é.py", 1)
    assert region.text == "x = 1\ny = 2\n"


def test_without_a_repository_or_a_commit_nothing_was_edited(repository, tmp_path_factory):
    repository.write("a.py", "x = 1\n")
    assert edited_regions(repository.root) == []
    assert edited_regions(tmp_path_factory.mktemp("plain")) == []
