import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import editing
from clients.editing import UnusableAnswerError

LINES = st.lists(st.text("ab ", max_size=3), max_size=8)
ENDINGS = st.sampled_from(["\n", "\r\n", "\r"])


def block(text: str, fence: str = "```") -> str:
    return f"Here it is:\n{fence}python\n{text}{fence}\n"


@given(lines=LINES, ending=ENDINGS, has_last_end=st.booleans())
def test_an_edit_that_changes_nothing_changes_no_byte(lines, ending, has_last_end):
    original = ending.join(lines) + (ending if has_last_end and lines else "")
    normal = original.replace("\r\n", "\n").replace("\r", "\n")
    assert editing.merge(original, normal) == original


def test_mixed_line_ends_are_kept_and_new_lines_end_as_most_do():
    original = "a\r\nb\nc\r\n"
    assert editing.merge(original, "a\nb\nnew\nc\n") == "a\r\nb\nnew\r\nc\r\n"


def test_a_missing_last_line_end_stays_missing():
    assert editing.merge("a\nb", "a\nb2\n") == "a\nb2"
    assert editing.merge("a\nb", "a\nb\nc\n") == "a\nb\nc"


def test_a_byte_order_mark_survives():
    assert editing.merge("\ufeffa\nb\n", "\ufeffa\nc\n") == "\ufeffa\nc\n"
    assert editing.merge("\ufeffa\nb\n", "x\nb\n") == "\ufeffx\nb\n"


def test_the_file_is_taken_out_of_the_talk_around_it():
    assert editing.whole_file(block("x = 1\n"), "stop") == "x = 1\n"


def test_a_file_that_holds_fences_gets_a_longer_one():
    text = "# Title\n```\ncode\n```\n"
    fence = editing.fence_for(text)
    assert fence == "````"
    assert fence in editing.messages("a.md", text, "x")[1]["content"]
    assert editing.whole_file(block(text, fence), "stop") == text


@pytest.mark.parametrize(
    ("answer", "reason", "message"),
    [
        (block("x = 1\n"), "length", "cut off"),
        ("```python\nx = 1\n", "stop", "no end"),
        ("x = 1\n", "stop", "no code block"),
        (block("x = 1\n") + block("y = 2\n"), "stop", "several"),
    ],
)
def test_an_answer_that_is_no_whole_file_is_refused(answer, reason, message):
    with pytest.raises(UnusableAnswerError, match=message):
        editing.whole_file(answer, reason)


def test_the_difference_is_a_patch():
    patch = editing.unified("a\nb\n", "a\nc\n", "f.py")
    assert "--- a/f.py\n+++ b/f.py\n" in patch
    assert patch.endswith("-b\n+c\n")
    assert editing.unified("a\n", "a\n", "f.py") == ""
