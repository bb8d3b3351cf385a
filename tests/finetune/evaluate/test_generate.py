"""Answers of base and tuned model, in batches."""

import pytest

from finetune.errors import BaseModelError, EvaluationError
from finetune.evaluate import generate
from finetune.evaluate.prompts import Prompt
from finetune.run import read_manifest

torch = pytest.importorskip("torch")
PROMPTS = [
    Prompt(task_id=str(length), mode="chat", input_ids=list(range(60, 60 + length)))
    for length in (9, 2, 20)
]


@pytest.fixture(scope="module")
def tuned(tiny_run):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_run / "tokenizer")
    return generate.load(tiny_run, read_manifest(tiny_run), tokenizer), tokenizer


def answer_all(tuned, ends, **options):
    chosen = {"side": "tuned", "max_tokens": 4, "batch_size": 2} | options
    batches = generate.answers(*tuned, PROMPTS, frozenset(ends), **chosen)
    return {answer.task_id: answer for batch in batches for answer in batch}


def greedy(model, input_ids, num_tokens):
    ids = list(input_ids)
    with torch.no_grad():
        for _ in range(num_tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(input_ids) :]


def test_a_batch_answers_as_each_prompt_alone_would(tuned, tiny_model):
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    model, tokenizer = tuned
    for side, alone in (("base", base), ("tuned", model)):
        found = answer_all(tuned, {319}, side=side)
        for prompt in PROMPTS:
            text = tokenizer.decode(greedy(alone, prompt.input_ids, 4), skip_special_tokens=True)
            assert found[prompt.task_id].text == text
    assert answer_all(tuned, {319}, side="base") != answer_all(tuned, {319}, side="tuned")


def test_an_answer_ends_before_its_end_token_and_says_so(tuned):
    model, tokenizer = tuned
    tokens = greedy(model, PROMPTS[0].input_ids, 4)
    end = tokens[3]
    answer = answer_all(tuned, {end})["9"]
    kept = tokens[: tokens.index(end)]
    assert (answer.text, answer.finish_reason) == (tokenizer.decode(kept), "stop")
    assert answer_all(tuned, {319})["9"].finish_reason == "length"


def test_the_context_bounds_an_answer_and_refuses_a_prompt(tuned, monkeypatch):
    monkeypatch.setattr(tuned[0].config, "max_position_embeddings", 21)
    assert len(answer_all(tuned, {319}, batch_size=1)) == 3
    monkeypatch.setattr(tuned[0].config, "max_position_embeddings", 20)
    with pytest.raises(EvaluationError, match="a prompt of 20 tokens fills the model's 20"):
        answer_all(tuned, {319})


def test_a_base_that_moved_away_is_named(tiny_run):
    manifest = {"base_model": {"kind": "gguf", "path": "gone"}}
    with pytest.raises(BaseModelError, match=r"is not at .*gone; put it back"):
        generate.weights_of(tiny_run, manifest)
