import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat.errors import NoFimError
from serve.chat.fim import ExtraFile, FimTokens, lay_out

TOKENS = FimTokens(prefix=1, suffix=2, middle=3, repository=4, separator=5, bos=6)


def tokenize(text):
    return [100 + byte for byte in text.encode()]


def texts(token_ids):
    return "".join(chr(i - 100) if i >= 100 else f"<{i}>" for i in token_ids)


def test_prefix_suffix_middle_in_this_order():
    assert texts(lay_out(TOKENS, tokenize, prefix="ab", suffix="c").token_ids) == "<6><1>ab<2>c<3>"


def test_no_bos_where_the_model_wants_none():
    tokens = FimTokens(prefix=1, suffix=2, middle=3)
    assert texts(lay_out(tokens, tokenize, prefix="a", suffix="").token_ids) == "<1>a<2><3>"


@pytest.mark.parametrize("missing", ["prefix", "suffix", "middle"])
def test_a_model_that_lacks_a_mark_is_refused(missing):
    marks = {"prefix": 1, "suffix": 2, "middle": 3} | {missing: None}
    with pytest.raises(NoFimError):
        lay_out(FimTokens(**marks), tokenize, prefix="a", suffix="b")


def test_other_files_are_left_out_of_models_without_separators():
    tokens = FimTokens(prefix=1, suffix=2, middle=3)
    extra = [ExtraFile(filename="x", text="y")]
    assert texts(lay_out(tokens, tokenize, prefix="a", suffix="", extra=extra).token_ids) == (
        "<1>a<2><3>"
    )


def test_the_last_files_are_kept_when_not_all_fit():
    extra = [ExtraFile(filename=name, text="." * 20) for name in "xyz"]
    prompt = lay_out(TOKENS, tokenize, prefix="a", suffix="b", extra=extra, max_tokens=80)
    assert "z\n" in texts(prompt.token_ids)
    assert "x\n" not in texts(prompt.token_ids)
    assert not prompt.is_cut


@given(
    prefix=st.text("p", max_size=60),
    suffix=st.text("s", max_size=60),
    sizes=st.lists(st.integers(0, 30), max_size=3),
    max_tokens=st.integers(4, 120),
)
def test_the_prompt_fits_and_keeps_what_is_nearest_to_the_cursor(prefix, suffix, sizes, max_tokens):
    extra = [ExtraFile(filename="f", text="e" * size) for size in sizes]
    prompt = lay_out(
        TOKENS, tokenize, prefix=prefix, suffix=suffix, extra=extra, max_tokens=max_tokens
    )
    shown = texts(prompt.token_ids)
    assert len(prompt.token_ids) <= max_tokens
    near = shown[shown.index("<1>") :]
    kept = near.count("p"), near.count("s")
    assert prompt.is_cut == (kept != (len(prefix), len(suffix)))
    if prompt.is_cut:
        assert len(prompt.token_ids) == max_tokens
        assert "e" not in shown


def test_what_is_written_follows_the_middle_mark():
    prompt = lay_out(TOKENS, tokenize, prefix="a", suffix="c", written="b1")
    assert texts(prompt.token_ids) == "<6><1>a<2>c<3>b1"


@pytest.mark.parametrize(
    ("written", "kept", "begins_with"),
    [
        ("x = arg_s", "x = arg", "_s"),
        ("x = ar", "x =", " ar"),
        ("    ", "   ", " "),
        ("x = ", "x =", " "),
        ("f(", "f", "("),
        ("if a ==", "if a", " =="),
        ("a\n", "a\n", ""),
        ("x1", "x1", ""),
        ("été", "", "été"),
    ],
)
def test_an_end_that_may_be_half_a_token_begins_the_answer(written, kept, begins_with):
    prompt = lay_out(TOKENS, str.split, prefix="a", suffix="c", written=written)
    assert prompt.begins_with == begins_with
    assert prompt.token_ids[-len(kept.split()) or len(prompt.token_ids) :] == kept.split()


def test_suffix_first_puts_what_is_written_behind_the_prefix():
    prompt = lay_out(TOKENS, tokenize, prefix="a", suffix="c", written="b", order="spm")
    assert texts(prompt.token_ids) == "<6><2>c<1>ab<3>"


def test_of_what_is_written_the_end_is_kept():
    prompt = lay_out(TOKENS, tokenize, prefix="a" * 9, suffix="c", written="bbb4", max_tokens=6)
    assert texts(prompt.token_ids) == "<6><1><2><3>b4"
