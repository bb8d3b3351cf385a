"""Why a prompt had to be read: every reason, and who sees it."""

import pytest

from serve.api.cache_log import CacheLog, Why

WORDS = list(range(100, 200))


class Cells:
    """An engine that has as many tokens ready as it is told; token 999 reads like 150 and 151."""

    def __init__(self):
        self.num_ready_now = 0

    def num_ready(self, token_ids, *, scope="", adapters=()):
        return self.num_ready_now

    def detokenize(self, token_ids, *, special=True):
        spelt = [f"{each}" if each != 999 else "150 151" for each in token_ids]
        return " ".join(spelt)


@pytest.fixture
def cells():
    return Cells()


@pytest.fixture
def log(cells):
    return CacheLog(cells)


def looked_up(log, token_ids, *, scope="", adapters=()):
    log.look_up(token_ids, scope, adapters, "id")
    return log.lookups(scope)[0]


def test_a_first_prompt_was_never_read(log):
    lookup = looked_up(log, WORDS)
    assert (lookup.why, lookup.num_ready, lookup.first_difference) == (Why.FIRST, 0, None)


def test_the_first_token_that_differs_is_named_with_what_stands_around_it(log, cells):
    looked_up(log, WORDS)
    cells.num_ready_now = 50
    lookup = looked_up(log, [*WORDS[:50], 7, *WORDS[51:]])
    assert lookup.why is Why.TEXT_DIFFERS
    difference = lookup.first_difference
    assert (difference.position, difference.known_token_id, difference.asked_token_id) == (
        50,
        150,
        7,
    )
    assert difference.before.endswith("148 149")
    assert difference.known.startswith("150 151")
    assert difference.asked.startswith("7 151")


def test_the_same_text_in_other_tokens_is_told_from_another_text(log, cells):
    looked_up(log, WORDS)
    cells.num_ready_now = 50
    assert looked_up(log, [*WORDS[:50], 999, *WORDS[52:]]).why is Why.TOKENS_DIFFER


def test_what_was_read_and_has_gone_is_forgotten(log):
    looked_up(log, WORDS)
    lookup = looked_up(log, [*WORDS, 1, 2])
    assert (lookup.why, lookup.num_shared, lookup.num_ready) == (Why.FORGOTTEN, 100, 0)


def test_cells_of_other_adapters_do_not_serve(log):
    looked_up(log, WORDS, adapters=((0, 1.0),))
    assert looked_up(log, WORDS).why is Why.ADAPTERS_DIFFER


def test_an_answer_is_part_of_what_was_read(log, cells):
    looked_up(log, WORDS[:50])
    log.note(WORDS, "", ())
    cells.num_ready_now = 100
    lookup = looked_up(log, [*WORDS, 1])
    assert (lookup.why, lookup.num_ready) == (Why.ALL_READY, 100)


def test_a_key_sees_its_own_prompts_only(log):
    looked_up(log, WORDS, scope="mine")
    assert looked_up(log, WORDS, scope="yours").why is Why.FIRST
    assert len(log.lookups("mine")) == 1
    assert log.lookups("") == []
