"""Chat templates: own, built-in or from a file, with the tokens they need."""

import pytest

from finetune.config import TemplateConfig
from finetune.data.examples import conversation
from finetune.data.tokens import encode, stop_token_ids
from finetune.errors import TemplateError
from finetune.template import BUILT_IN, choose_template, template_sha256

MESSAGES = [{"role": "user", "content": "hi"}]


def test_the_base_models_own_template_is_kept(tiny_tokenizer):
    own = tiny_tokenizer.chat_template
    choose_template(tiny_tokenizer, TemplateConfig())
    assert tiny_tokenizer.chat_template == own


def test_a_base_without_template_is_told_every_choice(tiny_tokenizer):
    tiny_tokenizer.chat_template = None
    with pytest.raises(TemplateError, match=r"chatml, llama-3, gemma, alpaca, or template.file"):
        choose_template(tiny_tokenizer, TemplateConfig())


def test_an_unknown_name_lists_the_known_ones(tiny_tokenizer):
    with pytest.raises(TemplateError, match="no built-in template `vicuna`: there is base, chatml"):
        choose_template(tiny_tokenizer, TemplateConfig(name="vicuna"))


def test_missing_tokens_are_named(tiny_tokenizer):
    with pytest.raises(TemplateError, match=r"needs <\|start_header_id\|>"):
        choose_template(tiny_tokenizer, TemplateConfig(name="llama-3"))


def test_chatml_renders_turns_and_the_generation_prompt(tiny_tokenizer):
    choose_template(tiny_tokenizer, TemplateConfig(name="chatml"))
    text = tiny_tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_llama_3_ends_turns_with_its_own_token(tiny_tokenizer):
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": [*BUILT_IN["llama-3"].tokens]})
    choose_template(tiny_tokenizer, TemplateConfig(name="llama-3"))
    text = tiny_tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert tiny_tokenizer.eos_token == "<|eot_id|>"
    assert text == (
        "<|im_start|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_gemma_names_the_model_and_puts_a_system_message_into_the_first_turn(tiny_tokenizer):
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": [*BUILT_IN["gemma"].tokens]})
    choose_template(tiny_tokenizer, TemplateConfig(name="gemma"))
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "more"},
    ]
    text = tiny_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tiny_tokenizer.eos_token == "<end_of_turn>"
    assert text == (
        "<|im_start|><start_of_turn>user\nbe short\n\nhi<end_of_turn>\n"
        "<start_of_turn>model\na<end_of_turn>\n"
        "<start_of_turn>user\nmore<end_of_turn>\n<start_of_turn>model\n"
    )
    row = encode(conversation("q", "a"), tiny_tokenizer, stop_token_ids(tiny_tokenizer))
    assert row.labels[-1] == tiny_tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["chatml", "alpaca"])
def test_built_in_templates_put_the_end_of_turn_into_the_loss(tiny_tokenizer, name):
    choose_template(tiny_tokenizer, TemplateConfig(name=name))
    row = encode(conversation("q", "a"), tiny_tokenizer, stop_token_ids(tiny_tokenizer))
    assert row.labels[-1] == tiny_tokenizer.eos_token_id


def test_a_file_wins_and_a_missing_one_is_named(tiny_tokenizer, tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    choose_template(tiny_tokenizer, TemplateConfig(name="chatml", file=str(path)))
    assert tiny_tokenizer.apply_chat_template(MESSAGES, tokenize=False) == "hi"
    with pytest.raises(TemplateError, match=r"gone.jinja cannot be read"):
        choose_template(tiny_tokenizer, TemplateConfig(file="gone.jinja"))


def test_an_end_of_turn_that_is_no_token_is_refused(tiny_tokenizer):
    with pytest.raises(TemplateError, match=r"template.eos_token <END> is no token"):
        choose_template(tiny_tokenizer, TemplateConfig(eos_token="<END>"))


def test_a_template_is_identified_by_its_text(tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("one", encoding="utf-8")
    before = template_sha256(TemplateConfig(file=str(path)))
    path.write_text("two", encoding="utf-8")
    assert template_sha256(TemplateConfig(file=str(path))) != before
    assert template_sha256(TemplateConfig()) is None
    chosen = {template_sha256(TemplateConfig(name=name)) for name in BUILT_IN}
    assert len(chosen) == len(BUILT_IN)
