import pytest

from serve.api.cutoff import Cutoff


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x", None),
        ("x\n", None),
        ("x\n    y\n", None),
        ("x\n\n    y\n  ", None),
        ("x\n    y\nz", "x\n    y\n"),
        ("x\n  z", "x\n"),
        ("x\n\t\t\t\ty\n", None),
    ],
)
def test_a_line_with_text_in_fewer_columns_ends_the_answer(text, kept):
    end = Cutoff(n_indent=4).end(text, 0)
    assert (None if end is None else text[:end]) == kept


def test_without_an_indent_any_line_may_follow():
    assert Cutoff().end("    x\ny", 1e9) is None


def test_time_ends_an_answer_only_after_its_first_line():
    cutoff = Cutoff(seconds=1)
    assert cutoff.end("x\ny", 0.5) is None
    assert cutoff.end("x", 2) is None
    assert cutoff.end("x\ny", 2) == 3
