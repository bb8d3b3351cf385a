"""A Modelfile is written where its template is exactly the file's, and refused elsewhere."""

import re

import pytest

from quantize.errors import TemplateShapeError
from quantize.examples import render
from quantize.report.modelfile import go_template, modelfile
from quantize.report.turn_shape import find_shape

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}[S]{{ m['content'] }}[/S]"
    "{% elif m['role'] == 'user' %}[U]{{ m['content'] }}[/U]{% else %}[A]{{ m['content'] }}</s>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}[A]{% endif %}"
)
FOLDED = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}"
    "{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}[INST] {{ system if loop.first }}"
    "{{ m['content'] }} [/INST]{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)
TALKS = [
    [("user", "Hi {{ x }}")],
    [("system", ""), ("user", "größe → 🙂")],
    [("user", " a\n"), ("assistant", "b"), ("user", "\tc")],
    [("system", "s"), ("user", "a"), ("assistant", ""), ("user", "b")],
]


def rendering(template):
    def rendered(messages, add_generation_prompt):
        names = {"bos_token": "<s>", "eos_token": "</s>"}
        return render(template, messages, add_generation_prompt=add_generation_prompt, names=names)

    return rendered


def as_go(template: str, messages) -> str:
    """Evaluate the few Go actions that are written, from the text that is written."""
    text = template
    opening = re.match(
        r'\{\{ if ne \(index \.Messages 0\)\.Role "system" \}\}(.*?)\{\{ end \}\}', text, re.DOTALL
    )
    out = ""
    if opening:
        text = text[opening.end() :]
        out += opening[1] if messages[0]["role"] != "system" else ""
    body = re.fullmatch(
        r"\{\{ range \.Messages \}\}((?:\{\{ if .*?\{\{ end \}\})+)\{\{ end \}\}(.*)",
        text,
        re.DOTALL,
    )
    turns = re.findall(
        r'\{\{ if eq \.Role "(\w+)" \}\}(.*?)\{\{ \.Content \}\}(.*?)\{\{ end \}\}',
        body[1],
        re.DOTALL,
    )
    around = {role: (before, after) for role, before, after in turns}
    for message in messages:
        before, after = around[message["role"]]
        out += before + message["content"] + after
    return out + body[2]


def spoken(talk):
    return [{"role": role, "content": content} for role, content in talk]


@pytest.mark.parametrize("talk", TALKS)
def test_the_go_template_that_is_written_says_what_the_files_template_says(talk):
    rendered = rendering(CHATML)
    go = go_template(find_shape(rendered, CHATML), bos="")
    assert as_go(go, spoken(talk)) == rendered(spoken(talk), add_generation_prompt=True)


@pytest.mark.parametrize("talk", TALKS)
def test_a_bos_that_ollama_adds_itself_is_left_out(talk):
    rendered = rendering(WITH_BOS)
    go = go_template(find_shape(rendered, CHATML), bos="<s>")
    assert "<s>" + as_go(go, spoken(talk)) == rendered(spoken(talk), add_generation_prompt=True)


def test_the_modelfile_names_the_file_and_every_stop():
    shape = find_shape(rendering(CHATML), CHATML)
    text = modelfile("a-q4_0.gguf", shape, ["<|im_end|>", 'x"y'], bos="")
    assert text.startswith('FROM ./a-q4_0.gguf\nTEMPLATE """{{ if ne')
    assert 'PARAMETER stop "<|im_end|>"\n' in text
    assert 'PARAMETER stop "x\\"y"\n' in text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (CHATML.replace("message['content'] +", "message['content'] | trim +"), "does more than"),
        (FOLDED, "chat template"),
        ("{{ messages | length }}" + CHATML, "chat template"),
        ("{% set day = strftime_now('%d') %}" + CHATML, "writes the date"),
        (CHATML.replace("<|im_end|>", '"""'), "cannot stand in a Modelfile"),
    ],
)
def test_a_template_without_an_exact_equivalent_is_refused_with_the_reason(template, reason):
    with pytest.raises(TemplateShapeError, match=reason):
        go_template(find_shape(rendering(template), template), bos="")
