"""Copies are found whatever their layout; honest neighbours are left alone."""

from hypothesis import given
from hypothesis import strategies as st

from finetune.data.overlap import Problem, contaminated, grams, near_duplicates

WORDS = "read each line of the file and keep those that start with a given word then count them"
OTHER = "open a socket to the server send the request wait for an answer and close it again soon"


def problem(text, name="p/1"):
    return Problem(source="bench.jsonl", identifier=name, text=text)


def test_layout_and_punctuation_do_not_hide_a_copy():
    copy = WORDS.upper().replace(" ", "\n  ") + "!!!"
    assert near_duplicates([WORDS, OTHER, copy], 0.85) == {2: 0}


def test_one_word_more_is_a_near_duplicate_and_another_text_is_not():
    assert near_duplicates([WORDS * 3, WORDS * 3 + " now", OTHER * 3], 0.8) == {1: 0}


@given(st.lists(st.text("ab c", min_size=1, max_size=30), max_size=12))
def test_only_texts_as_similar_as_the_threshold_are_paired(texts):
    for copy, original in near_duplicates(texts, 0.9).items():
        left, right = grams(texts[copy], 5), grams(texts[original], 5)
        assert original < copy
        assert len(left & right) >= 0.9 * len(left | right)


def test_a_problem_inside_a_longer_example_is_found_with_its_share():
    (found,) = contaminated([OTHER, f"{OTHER} {WORDS} {OTHER}"], [problem(WORDS)], 0.5)
    assert (found.example, found.identifier, found.share) == (1, "p/1", 1.0)


def test_half_a_problem_counts_by_its_share():
    half = " ".join(WORDS.split()[:11])
    assert contaminated([half], [problem(WORDS)], 0.5) == []
    assert len(contaminated([half], [problem(WORDS)], 0.3)) == 1


def test_a_problem_of_a_few_words_marks_nothing():
    assert contaminated(["return the sum of a list"], [problem("the sum of")], 0.1) == []
