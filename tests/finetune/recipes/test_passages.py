"""Passages are the document in order, fit, carry loss everywhere, and only the last one ends."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.data.examples import make_document
from finetune.recipes.passages import cut, encode_passage

LINES = st.lists(st.text(alphabet="ab \té", max_size=40), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=LINES, room=st.integers(4, 30))
def test_passages_put_together_are_the_document(tiny_tokenizer, lines, room):
    document = make_document("a.txt", "\n".join(lines), "text")
    passages = cut(document, tiny_tokenizer, room)
    for passage in passages:
        end = passage.start + len(passage.text)
        assert document.text[passage.start : end] == passage.text
        assert encode_passage(passage, tiny_tokenizer).num_tokens <= room + 1
    assert "".join("".join(p.text.split()) for p in passages) == "".join(document.text.split())


def test_every_token_is_learnt_and_only_the_last_passage_ends_the_text(tiny_tokenizer):
    document = make_document("a.txt", "one two three\nfour five six\n" * 4, "text")
    passages = cut(document, tiny_tokenizer, 40)
    assert len(passages) > 2
    assert [passage.is_last for passage in passages] == [*[False] * (len(passages) - 1), True]
    rows = [encode_passage(passage, tiny_tokenizer) for passage in passages]
    assert all(row.labels == row.input_ids for row in rows)
    end = tiny_tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert [row.input_ids[-1] == end for row in rows] == [passage.is_last for passage in passages]


def test_lines_stay_whole_where_they_fit(tiny_tokenizer):
    document = make_document("a.py", "a = 1\nb = 2\nc = 3\n", "source")
    assert all(p.text.endswith("\n") for p in cut(document, tiny_tokenizer, 10))
