"""How problems are laid out as tokens, and what ends an answer."""

import pytest

from finetune.errors import EvaluationError
from finetune.evaluate.prompts import end_ids, make_prompt
from finetune.evaluate.suites import Problem

GAP = Problem(task_id="g", kind="infilling", prompt="a", suffix="b", solution="c")


@pytest.fixture
def fim_tokenizer(tiny_tokenizer):
    tiny_tokenizer.add_tokens(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"], special_tokens=True)
    return tiny_tokenizer


def test_a_question_is_rendered_up_to_where_the_answer_starts(tiny_tokenizer):
    problem = Problem(task_id="m", kind="instruction", prompt="Add.", tests="assert 1", solution="")
    text = tiny_tokenizer.decode(make_prompt(problem, tiny_tokenizer, None).input_ids)
    assert text.startswith("<|im_start|>user\nAdd.\n")
    assert "assert 1" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_a_held_out_conversation_is_asked_as_it_was_trained(tiny_tokenizer):
    turns = ({"role": "user", "content": "add"},)
    problem = Problem(task_id="c", kind="conversation", messages=turns, solution="")
    prompt = make_prompt(problem, tiny_tokenizer, "completion")
    assert prompt.mode == "chat"
    assert tiny_tokenizer.decode(prompt.input_ids) == (
        "<|im_start|>user\nadd<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_gap_lies_between_the_models_own_tokens(fim_tokenizer):
    text = fim_tokenizer.decode(make_prompt(GAP, fim_tokenizer, None).input_ids)
    assert text == "<fim_prefix>a<fim_suffix>b<fim_middle>"


def test_a_model_without_tokens_for_gaps_says_so(tiny_tokenizer):
    with pytest.raises(EvaluationError, match="has no fill-in-the-middle tokens"):
        make_prompt(GAP, tiny_tokenizer, None)
    assert make_prompt(GAP, tiny_tokenizer, "completion").mode == "completion"


def test_end_of_turn_and_gap_tokens_end_an_answer(fim_tokenizer):
    ends = fim_tokenizer.convert_ids_to_tokens(sorted(end_ids(fim_tokenizer)))
    assert {"<|im_end|>", "<|endoftext|>", "<fim_prefix>"} <= set(ends)
