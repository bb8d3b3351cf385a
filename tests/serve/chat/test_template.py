"""Rendering equals what models are trained with: transformers' own `apply_chat_template`."""

import functools

import pytest

from serve.chat.capabilities import probe
from serve.chat.errors import TemplateError
from serve.chat.template import ChatTemplate, from_metadata

LLAMA_STYLE = """{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {%- generation %}
{{ message.content }}{{ eos_token }}
        {%- endgeneration %}
    {%- else %}
[INST] {{ message.content | trim }} [/INST]
    {%- endif %}
{%- endfor %}
"""
CONTROLS = """{% for m in messages %}
{% if m.role == 'skip' %}{% continue %}{% endif %}
{% if m.role == 'end' %}{% break %}{% endif %}
    {# a comment #}
<{{ m.role }}>{{ m.content }}
{% endfor %}
{% if tools %}{{ tools | tojson(indent=2) }}{{ tools | tojson }}{% endif %}
{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}
{% if add_generation_prompt %}<assistant>{% endif %}"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "größe",
            "description": "a <b> & 'c'",
            "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
        },
    }
]
USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "yes"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": "ü<&>", "n": [1, 2.5]}}}
CONVERSATIONS = {
    "one turn": [USER],
    "system": [{"role": "system", "content": "be brief"}, USER],
    "several turns": [USER, ASSISTANT, {"role": "user", "content": "and?"}],
    "unicode": [{"role": "user", "content": "naïve 日本語 🦀 </s> <|im_end|>"}],
    "empty": [{"role": "system", "content": ""}, {"role": "user", "content": ""}],
    "blank lines": [{"role": "user", "content": "  a\n\n  b\n"}],
    "tool calls": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "42", "name": "f"},
        ASSISTANT,
    ],
}


def reference(source, messages, *, tools, add_generation_prompt):
    """Render with transformers; bos and eos as in the templates below."""
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    rendered, _ = utils.render_jinja_template(
        conversations=[messages],
        tools=tools,
        chat_template=source,
        add_generation_prompt=add_generation_prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    return rendered[0]


@functools.cache
def of_file(path):
    gguf = pytest.importorskip("gguf")
    field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
    return field.contents()


def check(source, messages, *, tools=None, add_generation_prompt=True):
    ours = ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(
        messages, tools=tools, add_generation_prompt=add_generation_prompt
    )
    theirs = reference(source, messages, tools=tools, add_generation_prompt=add_generation_prompt)
    assert ours == theirs


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["plain", "with tools"])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("model", ["smollm2_gguf", "qwen_coder_gguf"])
@pytest.mark.weights
def test_templates_of_real_files_render_as_transformers_renders_them(
    request, model, conversation, tools
):
    source = of_file(request.getfixturevalue(model))
    for add_generation_prompt in (True, False):
        check(
            source,
            CONVERSATIONS[conversation],
            tools=tools,
            add_generation_prompt=add_generation_prompt,
        )


@pytest.mark.parametrize("conversation", ["one turn", "several turns", "unicode", "blank lines"])
@pytest.mark.parametrize("source", [LLAMA_STYLE, CONTROLS], ids=["llama style", "controls"])
def test_what_template_authors_use_renders_as_transformers_renders_it(source, conversation):
    check(source, CONVERSATIONS[conversation], tools=TOOLS)


def test_a_templates_own_refusal_is_the_message():
    with pytest.raises(TemplateError, match="roles must alternate"):
        ChatTemplate(LLAMA_STYLE).render([ASSISTANT])


def test_a_template_that_does_not_parse_says_where():
    with pytest.raises(TemplateError, match="does not parse"):
        ChatTemplate("{% for %}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10000000) %}{% endfor %}",
        "{{ 1 + messages }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source):
    with pytest.raises(TemplateError):
        ChatTemplate(source).render([USER])


def test_the_tool_variant_is_used_only_when_there_are_tools():
    metadata = {"tokenizer.chat_template": "plain", "tokenizer.chat_template.tool_use": "tools"}
    template = from_metadata(metadata)
    assert template.render([USER]) == "plain"
    assert template.render([USER], tools=TOOLS) == "tools"


def test_a_file_without_a_template_has_none():
    assert from_metadata({"general.name": "base"}) is None


def test_variables_reach_the_template():
    template = ChatTemplate("{{ enable_thinking }}")
    assert template.render([USER], variables={"enable_thinking": False}) == "False"


def test_probing_tells_what_a_template_can_express():
    plain = probe(ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}"))
    assert plain.supports_system_role
    assert not plain.supports_tools
    assert not plain.supports_tool_calls
    assert not probe(ChatTemplate(LLAMA_STYLE)).supports_system_role
    assert probe(ChatTemplate(CONTROLS)).supports_tools
