"""Questions made from documents: their own words are not in what is shown."""

import pytest

from finetune.data.examples import make_document
from finetune.errors import DataError
from finetune.recipes.cards import best_sentence, card_of_row, cards_of, sections

MARKDOWN = """# Pump

It moves water. It is loud.

## Cleaning

Open the lid first. Then rinse with warm water and let it dry for a day.

```sh
# no heading
make clean
```

## Empty
"""
RST = """Pump
====

It moves water from one place to another.

Cleaning
--------

Open the lid and rinse it with warm water.
"""
CODE = '''
def mean(values):
    """Return the arithmetic mean of some numbers.

    Raises ValueError for none.
    """
    if not values:
        raise ValueError
    return sum(values) / len(values)


def undocumented(values):
    total = sum(values)
    return total
'''


def test_sections_know_the_headings_above_them():
    found = dict(sections(MARKDOWN))
    assert list(found) == [("Pump",), ("Pump", "Cleaning")]
    assert "# no heading" in found["Pump", "Cleaning"]


def test_underlined_headings_are_headings_by_depth():
    assert [path for path, _ in sections(RST)] == [("Pump",), ("Pump", "Cleaning")]


def test_a_section_answers_the_question_about_its_heading():
    (card,) = cards_of(make_document("m.md", MARKDOWN, "text"), 900)
    assert card.question == "What is said about Pump / Cleaning?"
    assert card.quote == "Open the lid first."
    assert card.quote in card.text
    assert "Cleaning" not in card.text


def test_a_function_answers_what_its_docstring_says():
    (card,) = cards_of(make_document("m.py", CODE, "source"), 900)
    assert "Return the arithmetic mean of some numbers." in card.question
    assert "arithmetic" not in card.text
    assert card.text.startswith("def mean(values):\n    if not values:")
    assert card.quote == card.text


def test_what_is_too_long_to_show_asks_nothing():
    assert list(cards_of(make_document("m.py", CODE, "source"), 80)) == []


def test_a_users_question_keeps_its_answer_and_gets_a_quotation():
    row = {"question": "How long?", "answer": "A day.", "document": "Rinse. Let it dry a day."}
    card = card_of_row(row, "f, row 1")
    assert (card.answer, card.quote) == ("A day.", "Let it dry a day.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "answer": "a"}, "row 1: a question needs .*missing or empty: document"),
        ({"question": "q", "answer": "a", "document": "d", "quote": "x"}, "not in the document"),
        ("text", "missing or empty: question, answer, document"),
    ],
)
def test_a_wrong_row_is_named(row, message):
    with pytest.raises(DataError, match=message):
        card_of_row(row, "f, row 1")


def test_equal_sentences_give_the_first():
    assert best_sentence("One thing. One thing more.", "thing") == "One thing."
