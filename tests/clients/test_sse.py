import itertools

from hypothesis import given
from hypothesis import strategies as st

from clients.sse import Event, Parser

TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8)


def parse(body: bytes, cuts: tuple[int, ...] = ()) -> list[Event]:
    parser = Parser()
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [
        event for start, end in itertools.pairwise(edges) for event in parser.feed(body[start:end])
    ]


def datas(body: bytes) -> list[str]:
    return [event.data for event in parse(body)]


def test_lines_of_one_event_are_joined_by_newlines():
    assert datas(b"data: a\ndata\ndata:b\n\n") == ["a\n\nb"]


def test_only_one_space_after_the_colon_is_dropped():
    assert datas(b"data:  two\n\ndata:none\n\n") == [" two", "none"]


def test_cr_lf_and_crlf_all_end_lines():
    assert datas(b"data: a\r\rdata: b\r\n\r\ndata: c\n\nx: y\n") == ["a", "b", "c"]


def test_a_lone_cr_at_a_pieces_end_waits_for_its_lf():
    parser = Parser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\n\r") == []
    assert [event.data for event in parser.feed(b"\ndata: b\n\n")] == ["a", "b"]


def test_comments_and_unknown_fields_are_ignored():
    assert datas(b": ping\n\nfoo: bar\ndata: a\n: more\n\n") == ["a"]


def test_an_event_without_data_is_not_dispatched_and_its_name_is_forgotten():
    (event,) = parse(b"event: lost\n\ndata: a\n\n")
    assert event.event == "message"


def test_event_id_and_retry_are_kept():
    (event,) = parse(b"event: error\nid: 7\nretry: 250\ndata: {}\n\n")
    assert event == Event(data="{}", event="error", last_event_id="7", retry_milliseconds=250)


def test_a_retry_that_is_not_a_number_and_an_id_with_nul_are_ignored():
    (event,) = parse(b"id: a\x00b\nretry: soon\ndata: x\n\n")
    assert (event.last_event_id, event.retry_milliseconds) == ("", None)


def test_a_byte_order_mark_at_the_start_is_dropped_once():
    assert datas(b"\xef\xbb\xbfdata: a\n\n") == ["a"]


def test_an_unfinished_event_at_the_end_is_dropped():
    assert datas(b"data: a\n\ndata: half\n") == ["a"]


@given(
    events=st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=5),
    end=st.sampled_from(["\n", "\r", "\r\n"]),
    noise=st.sampled_from(["", ": ping"]),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_events_are_the_same_wherever_the_bytes_are_split(events, end, noise, cuts):
    body = ""
    for lines in events:
        body += (noise + end) if noise else ""
        body += "".join(f"data: {line}{end}" for line in lines) + end
    body += "data: never finished"  # whatever follows shows that a last CR was a line end
    found = [event.data for event in parse(body.encode(), tuple(cuts))]
    assert found == ["\n".join(lines) for lines in events]
