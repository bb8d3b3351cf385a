"""Which way is read now and which in the background; a token is a character."""

from hypothesis import given
from hypothesis import strategies as st

from serve.chat.anchors import Gap, Lack, Liberties
from serve.chat.fim import FimTokens
from serve.chat.fim_plan import MIN_CUT_TOKENS, FimPlanner
from serve.engine.prefix import common_prefix_length

TOKENS = FimTokens(prefix=1, suffix=2, middle=3)
NONE = Liberties(keep_split=False, kept_lines=0, keep_extra=False, cut=False)


class Desk:
    """A planner beside what was read."""

    def __init__(self, **liberties):
        self.read = []
        self.planner = FimPlanner(TOKENS, self.tokenize, Liberties(**liberties), self.ready)

    @staticmethod
    def tokenize(text):
        return [100 + ord(each) for each in text]

    def ready(self, token_ids):
        return max((common_prefix_length(each, token_ids) for each in self.read), default=0)

    def ask(self, before, after="\nend\nof file\n", budget=None):
        plan = self.planner.plan(Gap(before=before, after=after), max_tokens=None, budget=budget)
        self.read.append(plan.now.prompt.token_ids)
        return plan


def text(count, first=0):
    return "".join(f"line {number}\n" for number in range(first, first + count))


def test_without_liberties_the_prompt_is_the_plain_one():
    planner = FimPlanner(TOKENS, Desk.tokenize, NONE, len)
    plan = planner.plan(Gap(before="a\nb", after="c"), max_tokens=None, budget=1)
    ids = Desk.tokenize("abc\n")
    assert plan.now.prompt.token_ids == [1, ids[0], ids[3], ids[1], 2, ids[2], 3]


def test_typing_reads_what_was_typed():
    desk = Desk()
    desk.ask(text(50))
    for typed in ("d", "de", "def", "def f", "def f():\n", "def f():\n    return"):
        assert desk.ask(text(50) + typed).now.num_to_read <= 12


def test_without_a_wish_everything_is_read_at_once():
    plan = Desk().ask(text(300))
    assert plan.now.way.lack is Lack.NOTHING
    assert plan.later == ()


def test_a_wish_cuts_an_unknown_place_and_leaves_the_rest_for_later():
    desk = Desk()
    plan = desk.ask(text(300), budget=20)
    assert plan.now.num_to_read <= MIN_CUT_TOKENS
    assert plan.now.way.text.endswith("line 299\n")
    assert [way.lack for way in plan.later] == [Lack.MUCH, Lack.NOTHING]
    assert plan.later[-1].text == text(300)


def test_what_was_read_in_the_background_is_used_from_then_on():
    desk = Desk()
    later = desk.ask(text(300), budget=20).later[-1]
    desk.read.append(desk.planner.lay(later, None).prompt.token_ids)
    desk.planner.remember(later)
    plan = desk.ask(text(300) + "x", budget=20)
    assert plan.now.way.lack is Lack.NOTHING
    assert plan.now.num_to_read == 1
    assert plan.later == ()


def test_after_a_move_the_lines_above_stay_and_the_suffix_is_cut_to_the_wish():
    desk = Desk()
    desk.ask(text(100))
    plan = desk.ask(text(102), after="\n" + text(60, first=103), budget=40)
    assert plan.now.way.lack is Lack.SOME
    assert plan.now.way.text == text(102)
    assert 0 < len(plan.now.way.after) < 100
    assert plan.later[0].after == "\n" + text(60, first=103)


def test_a_wish_that_is_long_enough_cuts_nothing():
    plan = Desk().ask(text(30), budget=10_000)
    assert plan.now.way.lack is Lack.NOTHING


@given(
    first=st.integers(0, 80),
    moves=st.lists(
        st.tuples(st.integers(0, 120), st.integers(0, 20), st.sampled_from([None, 5, 200])),
        max_size=8,
    ),
    order=st.sampled_from(["psm", "spm"]),
)
def test_every_prompt_holds_the_cursors_line_and_what_it_costs_is_counted_right(
    first, moves, order
):
    desk = Desk(order=order)
    file = text(160)
    for line, typed, budget in [(first, 0, None), *moves]:
        lines = file.splitlines(keepends=True)
        cursor = "cursor" + "." * typed
        before = "".join(lines[max(line - 40, 0) : line]) + cursor
        ready = list(desk.read)
        plan = desk.ask(before, after="\n" + "".join(lines[line : line + 10]), budget=budget)
        ids = plan.now.prompt.token_ids
        known = max((common_prefix_length(each, ids) for each in ready), default=0)
        assert plan.now.num_to_read == len(ids) - min(known, len(ids) - 1)
        assert plan.now.way.text.endswith(cursor)
        if budget is None:
            assert plan.now.way.lack is Lack.NOTHING
            assert plan.now.way.text.endswith(before)
