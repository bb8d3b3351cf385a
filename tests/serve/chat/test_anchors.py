"""Ways from what was laid out before to what is asked now, as texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat.anchors import Gap, Lack, Liberties, Way, plain, ways
from serve.chat.fim import ExtraFile

ALL = Liberties()
NONE = Liberties(keep_split=False, kept_lines=0, keep_extra=False, cut=False)


def lines(first, last):
    return "".join(f"line {number}\n" for number in range(first, last))


def gap(before, after="\nend\nof\nfile\n", extra=()):
    return Gap(before=before, after=after, extra=extra)


def whole(asked, *anchors, liberties=ALL):
    return [way for way in ways(asked, anchors, liberties) if way.lack is Lack.NOTHING]


def test_a_plain_way_is_split_before_the_cursors_line():
    way = plain(gap(lines(0, 3) + "    retu"), ALL)
    assert (way.before, way.written) == (lines(0, 3), "    retu")


def test_a_lone_line_is_split_at_the_cursor():
    assert plain(gap("def f("), ALL).before == "def f("


def test_without_liberties_everything_before_the_cursor_is_prefix():
    asked = gap(lines(0, 3) + "    retu")
    assert plain(asked, NONE).before == asked.before


def test_typing_stays_at_the_anchor_and_counts_as_written():
    anchor = plain(gap(lines(0, 20)), ALL)
    stays = whole(gap(lines(0, 22) + "and more"), anchor)[0]
    assert stays.is_at(anchor)
    assert stays.written == lines(20, 22) + "and more"


def test_a_window_that_slid_keeps_the_lines_it_slid_past():
    anchor = plain(gap(lines(0, 20)), ALL)
    stays = whole(gap(lines(5, 22)), anchor)[0]
    assert stays.text == lines(0, 22)


def test_too_many_older_lines_are_more_than_was_asked_for():
    anchor = plain(gap(lines(0, 40)), ALL)
    assert not whole(gap(lines(30, 42)), anchor, liberties=Liberties(kept_lines=20))


def test_another_text_after_the_cursor_moves_the_split_and_keeps_the_beginning():
    anchor = plain(gap(lines(0, 20)), ALL)
    moved = whole(gap(lines(5, 25), after="\nother\n"), anchor)
    assert [way.text for way in moved] == [lines(0, 25)]
    assert moved[0].after == "\nother\n"


def test_an_anchor_with_fewer_lines_after_it_serves_but_says_so():
    anchor = plain(gap(lines(0, 20), after="\na\nb\n"), ALL)
    found = list(ways(gap(lines(0, 21), after="\na\nb\nc\n"), [anchor], ALL))
    assert [way.lack for way in found if way.is_at(anchor)] == [Lack.SOME]


def test_pieces_of_other_files_stay_as_they_were_read():
    extra = (ExtraFile(filename="a", text="b"),)
    anchor = plain(gap(lines(0, 20)), ALL)
    assert whole(gap(lines(0, 21), extra=extra), anchor)[0].extra == ()
    assert not list(ways(gap(lines(0, 21), extra=extra), [anchor], Liberties(keep_extra=False)))


def test_a_cursor_that_moved_up_uses_the_lines_that_are_known():
    anchor = plain(gap(lines(10, 40)), ALL)
    found = list(ways(gap(lines(5, 30), after="\nother\n"), [anchor], ALL))
    assert [(way.text, way.lack) for way in found] == [(lines(10, 30), Lack.SOME)]


texts = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "    d\n"]), max_size=40).map("".join)


@given(known=texts, asked=texts, written=st.text("xy", max_size=3), after=texts, old_after=texts)
def test_a_way_that_lacks_nothing_ends_with_all_that_was_asked(
    known, asked, written, after, old_after
):
    anchor = plain(gap(known + "z", after=old_after), ALL)
    wanted = gap(asked + written, after=after)
    for way in ways(wanted, [anchor], ALL):
        if way.lack is Lack.NOTHING:
            assert way.text.endswith(wanted.before)
            assert way.after.startswith(wanted.after)
        assert way.text.endswith(written)


@pytest.mark.parametrize("name", ["kept_lines", "pause_seconds", "prompt_ms"])
def test_a_negative_setting_is_refused(name):
    with pytest.raises(ValueError, match=name):
        Liberties(**{name: -1})


def test_an_anchor_that_was_cut_stays_cut():
    anchor = Way(before=lines(15, 20), written="", after="\nend\n", lack=Lack.MUCH)
    found = list(ways(gap(lines(15, 21)), [anchor], ALL))
    assert {way.lack for way in found if way.is_at(anchor)} == {Lack.MUCH}
