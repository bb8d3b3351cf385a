"""The held-out split depends on content alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.examples import conversation
from finetune.data.split import split_examples
from finetune.errors import DataError

EXAMPLES = tuple(conversation(f"question {n}", f"answer {n}") for n in range(400))


def split(examples, fraction=0.1, cap=1000, seed=1):
    return split_examples(tuple(examples), fraction=fraction, max_heldout=cap, seed=seed)


@given(st.permutations(EXAMPLES[:40]))
def test_reordering_changes_nothing(shuffled):
    assert split(shuffled) == split(EXAMPLES[:40])


def test_about_the_fraction_is_held_out():
    assert 20 <= len(split(EXAMPLES).heldout) <= 60


def test_new_rows_move_no_old_one():
    before, after = split(EXAMPLES[:200]), split(EXAMPLES)
    assert set(before.train) <= set(after.train)
    assert set(before.heldout) <= set(after.heldout)


def test_raising_the_cap_moves_no_trained_example():
    assert split(EXAMPLES, cap=3).train == split(EXAMPLES).train
    assert split(EXAMPLES, cap=3).heldout == split(EXAMPLES).heldout[:3]


def test_repeats_are_dropped_and_never_straddle():
    result = split(EXAMPLES + EXAMPLES[:50])
    assert result.num_duplicates == 50
    assert not set(result.train) & set(result.heldout)


def test_blanks_around_an_answer_do_not_make_it_new():
    twins = (conversation("q", "a"), conversation("q ", "a\n"), conversation("r", "b"))
    assert split(twins).num_duplicates == 1


def test_another_seed_orders_training_anew_but_holds_out_the_same():
    one, two = split(EXAMPLES, seed=1), split(EXAMPLES, seed=2)
    assert one.heldout == two.heldout
    assert one.train != two.train
    assert set(one.train) == set(two.train)


def test_a_few_examples_still_leave_one_on_each_side():
    result = split(EXAMPLES[:2], fraction=0.0001)
    assert (len(result.train), len(result.heldout)) == (1, 1)


def test_one_distinct_example_cannot_be_split():
    with pytest.raises(DataError, match="1 distinct example: at least 2"):
        split(EXAMPLES[:1] * 5)
