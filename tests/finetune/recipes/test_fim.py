"""Gaps: the parts are the text, the layout is a server's, the middle and its end are learnt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.tokens import IGNORED
from finetune.recipes.fim import encode_gap, make_gap
from finetune.recipes.fim_tokens import FAMILIES, NEW, ensure_fim_tokens, find_fim_tokens
from finetune.recipes.settings import FimConfig

CODE = "def add(a, b):\n    total = a + b\n    return total\n\n\nprint(add(1, 2))\n"


def gap_of(text=CODE, spm_rate=0.0, seed=1):
    gap = make_gap(text, FimConfig(rate=1, spm_rate=spm_rate), seed=seed)
    assert gap is not None
    return gap


@given(text=st.text(min_size=20, max_size=200), seed=st.integers(0, 9))
def test_the_parts_are_the_text_and_depend_on_seed_and_text_alone(text, seed):
    gap = make_gap(text, FimConfig(rate=1), seed=seed)
    if gap is not None:
        assert gap.prefix + gap.middle + gap.suffix == text
        assert gap.middle.strip()
        assert make_gap(text, FimConfig(rate=1), seed=seed) == gap


def test_both_orders_come_up_at_their_rate():
    texts = [f"value = {number}\nprint(value, {number})\n" for number in range(400)]
    orders = [gap_of(text, spm_rate=0.25).order for text in texts]
    assert 0.18 < orders.count("spm") / 400 < 0.32


def test_a_text_too_short_to_teach_anything_makes_no_gap():
    assert make_gap("x = 1\n", FimConfig(rate=1), seed=0) is None


@pytest.mark.parametrize("spm_rate", [0.0, 1.0])
def test_the_layout_is_what_the_server_sends(tiny_tokenizer, spm_rate):
    tokens, gap = ensure_fim_tokens(tiny_tokenizer), gap_of(spm_rate=spm_rate)
    row = encode_gap(gap, tiny_tokenizer, tokens, whole=False, max_length=400)
    text = tiny_tokenizer.decode(row.input_ids)
    before, after = f"<|fim_prefix|>{gap.prefix}", f"<|fim_suffix|>{gap.suffix}"
    first, second = (after, before) if spm_rate else (before, after)
    assert text == f"{first}{second}<|fim_middle|>{gap.middle}<|endoftext|>"


def test_the_middle_and_its_end_carry_loss_and_nothing_else(tiny_tokenizer):
    tokens, gap = ensure_fim_tokens(tiny_tokenizer), gap_of()
    row = encode_gap(gap, tiny_tokenizer, tokens, whole=False, max_length=400)
    learnt = [label for label in row.labels if label != IGNORED]
    assert tiny_tokenizer.decode(learnt) == gap.middle + "<|endoftext|>"
    assert row.labels[-1] == tokens.end
    whole = encode_gap(gap, tiny_tokenizer, tokens, whole=True, max_length=400)
    assert whole.labels == whole.input_ids == row.input_ids


def test_context_that_does_not_fit_goes_farthest_first(tiny_tokenizer):
    tokens, gap = ensure_fim_tokens(tiny_tokenizer), gap_of(CODE * 5)
    room = len(tiny_tokenizer(gap.middle)["input_ids"]) + 24
    row = encode_gap(gap, tiny_tokenizer, tokens, whole=False, max_length=room)
    assert row.num_tokens == room
    text = tiny_tokenizer.decode(row.input_ids)
    prefix, rest = text.removeprefix("<|fim_prefix|>").split("<|fim_suffix|>")
    suffix, middle = rest.split("<|fim_middle|>")
    assert gap.prefix.endswith(prefix)
    assert gap.suffix.startswith(suffix)
    assert middle == gap.middle + "<|endoftext|>"


def test_a_middle_that_does_not_fit_is_given_up(tiny_tokenizer):
    tokens, gap = ensure_fim_tokens(tiny_tokenizer), gap_of()
    assert encode_gap(gap, tiny_tokenizer, tokens, whole=False, max_length=4) is None


def test_a_tokenizer_without_marks_gets_new_ones_to_learn(tiny_tokenizer):
    assert find_fim_tokens(tiny_tokenizer) is None
    size = len(tiny_tokenizer)
    tokens = ensure_fim_tokens(tiny_tokenizer)
    assert tokens.new_ids == (size, size + 1, size + 2)
    assert tiny_tokenizer("a<|fim_middle|>b")["input_ids"].count(tokens.middle) == 1
    assert find_fim_tokens(tiny_tokenizer).prefix == tokens.prefix


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.prefix)
def test_a_models_own_marks_are_found_and_not_learnt_anew(tiny_tokenizer, family):
    marks = [family.prefix, family.suffix, family.middle, *([family.end] if family.end else [])]
    tiny_tokenizer.add_tokens(marks, special_tokens=True)
    tokens = ensure_fim_tokens(tiny_tokenizer)
    ids = tiny_tokenizer.convert_tokens_to_ids(marks)
    assert [tokens.prefix, tokens.suffix, tokens.middle] == ids[:3]
    end = family.end or "<|endoftext|>"
    assert tokens.end == tiny_tokenizer.convert_tokens_to_ids(end)
    assert tokens.new_ids == ()


@pytest.mark.weights
def test_smollm2_has_no_marks_of_its_own(smollm2_tokenizer):
    assert find_fim_tokens(smollm2_tokenizer) is None
    assert NEW.prefix not in smollm2_tokenizer.get_vocab()
