"""Whatever JSON arrives, the answer is an answer or an envelope, never a server error."""

import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.api.anthropic_schemas import CountRequest, MessagesRequest
from serve.api.chat_schemas import ChatRequest
from serve.api.completion_schemas import CompletionRequest
from serve.api.native_schemas import InfillRequest, NativeCompletionRequest
from serve.api.native_text import DetokenizeRequest, TemplateRequest, TokenizeRequest
from serve.api.ollama_schemas import OllamaChatRequest, OllamaGenerateRequest
from serve.api.responses_schemas import ResponseRequest

ROUTES = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountRequest,
    "/v1/responses": ResponseRequest,
    "/api/chat": OllamaChatRequest,
    "/api/generate": OllamaGenerateRequest,
    "/completion": NativeCompletionRequest,
    "/infill": InfillRequest,
    "/apply-template": TemplateRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
EXAMPLES = int(os.environ.get("EDGESMITH_FUZZ_EXAMPLES", "20"))
"""Bodies a route; `make fuzz` tries many more."""

SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.floats(-2, 2) | st.text(max_size=8)
SHAPES = [
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "call_id",
    "output",
    "summary",
]
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SHAPES), inner, max_size=4)
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={"content": JSON, "tool_calls": JSON, "name": JSON},
    ),
    max_size=3,
)
ITEMS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["message", "reasoning", "function_call", "function_call_output", "other"]
        )
    },
    optional=dict.fromkeys(("role", "content", "name", "call_id", "arguments", "output"), JSON),
)
SENSIBLE = {
    "messages": MESSAGES,
    "input": st.text(max_size=5) | st.lists(ITEMS, max_size=3),
    "prompt": st.text(max_size=5) | st.lists(st.integers(0, 261), max_size=4),
    "content": st.text(max_size=5),
    "tokens": st.lists(st.integers(-1, 300), max_size=4),
    "n": st.integers(0, 3),
    "n_cmpl": st.integers(0, 3),
}


def bodies(schema):
    """Mostly sound bodies with a few fields of any shape, so that checks behind types are met."""
    names = [field.encode_name for field in msgspec.structs.fields(schema)]
    sound = st.fixed_dictionaries({name: SENSIBLE[name] for name in names if name in SENSIBLE})
    odd = st.dictionaries(st.sampled_from(names), JSON, max_size=2)
    return st.tuples(sound, odd).map(lambda both: both[0] | both[1])


@pytest.mark.parametrize("path", ROUTES)
def test_no_body_makes_the_server_fail(live, path):
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=bodies(ROUTES[path]))
    def check(body):
        response = live.http.post(path, json=body)
        assert response.status_code in {200, 400}, (response.status_code, response.text, body)
        if response.status_code == 400:
            error = response.json()["error"]
            assert error["message"] if isinstance(error, dict) else error

    check()
