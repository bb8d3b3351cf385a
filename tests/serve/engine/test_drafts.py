"""Where guesses come from, and how they find their place again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.engine.drafts import NEAR, Drafter
from serve.engine.request import GenerationRequest
from serve.engine.sequence import Sequence

LETTERS = list(range(100, 160))


def drafter_after(prompt, output=(), prediction=()):
    request = GenerationRequest(prompt_token_ids=prompt, prediction_token_ids=prediction)
    sequence = Sequence(request, context_length=10_000, now=0.0)
    drafter = Drafter(sequence)
    for token_id in output:
        drafter.propose(8)
        sequence.append(token_id)
    return drafter


def test_a_prediction_is_guessed_from_its_beginning():
    assert drafter_after([1, 2], prediction=LETTERS).propose(4) == tuple(LETTERS[:4])


def test_a_guess_goes_on_where_the_output_stands():
    drafter = drafter_after([1, 2], LETTERS[:7], LETTERS)
    assert drafter.propose(3) == tuple(LETTERS[7:10])
    assert drafter.num_predicted == 7
    assert drafter.num_unused == len(LETTERS) - 7


def test_after_words_that_were_put_in_the_prediction_goes_on_behind_them():
    drafter = drafter_after([1], [*LETTERS[:5], 7, 8, 9, *LETTERS[5:6]], LETTERS)
    assert drafter.propose(3) == tuple(LETTERS[6:9])


def test_after_words_that_were_left_out_the_prediction_goes_on_behind_them():
    drafter = drafter_after([1], [*LETTERS[:5], LETTERS[9]], LETTERS)
    assert drafter.propose(3) == tuple(LETTERS[10:13])


def test_after_words_that_were_replaced_the_prediction_goes_on_behind_them():
    drafter = drafter_after([1], [*LETTERS[:5], 7, 8, LETTERS[7]], LETTERS)
    assert drafter.propose(3) == tuple(LETTERS[8:11])


def test_a_long_gap_is_jumped_once_three_tokens_agree():
    output = [*LETTERS[:5], *LETTERS[5 + NEAR + 5 : 5 + NEAR + 7]]
    assert drafter_after([1], output, LETTERS).propose(3) == ()
    output.append(LETTERS[5 + NEAR + 7])
    assert drafter_after([1], output, LETTERS).propose(2) == tuple(LETTERS[29:31])


def test_of_equal_places_in_the_prediction_the_next_one_ahead_is_taken():
    twice = [1, 2, 3, 50, 51, 1, 2, 3, 60, 61, 1, 2, 3, 70]
    drafter = drafter_after([9], [1, 2, 3, 50, 51, 90, 91, 1, 2, 3], twice)
    assert drafter.propose(1) == (60,)


def test_without_a_prediction_the_latest_equal_tokens_are_continued():
    prompt = [1, 2, 3, 50, 51, 9, 1, 2, 3, 60, 61, 9]
    assert drafter_after(prompt, [1, 2, 3]).propose(2) == (60, 61)


def test_the_output_itself_is_continued_too():
    assert drafter_after([9], [1, 2, 3, 4, 5, 1, 2, 3]).propose(2) == (4, 5)


def test_what_was_never_said_gives_no_guess():
    assert drafter_after([9, 8], [1, 2, 3]).propose(4) == ()


def test_guesses_are_judged_whether_they_were_drafted_or_not():
    drafter = drafter_after([9], LETTERS[:30], LETTERS)
    drafter.propose(1)
    assert drafter.acceptance.odds(drafter.agreement) > 0.93


def test_the_prompt_alone_is_no_agreement():
    drafter = drafter_after([1, 2, 3, 4] * 3)
    assert drafter.propose(4) == ()


@given(
    st.lists(st.integers(0, 4), max_size=30),
    st.lists(st.integers(0, 4), max_size=60),
    st.lists(st.integers(0, 4), max_size=40),
)
def test_a_guess_is_always_a_copy_from_behind_what_was_said_last(prompt, output, prediction):
    guess = drafter_after(prompt, output, prediction).propose(6)
    if not output:
        assert guess == tuple(prediction[:6])
        return
    said = [*prompt, *output]
    copies = [
        tuple(source[at : at + 6])
        for source in (prediction, said)
        for at in range(1, len(source))
        if source[at - 1] == output[-1]
    ]
    assert not guess or guess in copies
