"""A pytest plugin that the suite runs with: leaves out what does not apply, writes results down."""

from __future__ import annotations

import functools
import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

LEFT_OUT = {
    "test_compat_gcp.py": "routes of a cloud vendor",
    "test_kv_keep_only_active.py": "asserts llama-server's own log lines",
    "test_lora.py": "needs an adapter from a hub",
    "test_mcp_servers.py": "llama-server's own tools",
    "test_proxy.py": "llama-server's own web page",
    "test_rerank.py": "needs a reranking model",
    "test_router.py": "llama-server's own router",
    "test_sleep.py": "llama-server's own sleep mode",
    "test_slot_save.py": "we lack it: slots are kept by the server itself, not by hand",
    "test_speculative.py": "needs a draft model",
    "test_stream.py": "we lack it: a stream that is taken up again by its conversation's name",
    "test_tools_builtin.py": "llama-server's own tools",
    "test_vision_api.py": "needs a vision model",
}
OBJECTS = "we lack it: inputs of embeddings that are objects"
MIXED = "we lack it: text and ids in one input of embeddings"
TESTS_LEFT_OUT = {
    "test_access_static_assets_without_api_key": "llama-server's own web page",
    "test_anthropic_empty_messages": "no message at all is a 400 here",
    "test_anthropic_tool_result_with_image": "an image for a text model is a 400, there a 500",
    "test_anthropic_vision_base64_with_multimodal_model": "a model from a hub",
    "test_anthropic_vision_format_accepted": "as test_anthropic_tool_result_with_image",
    "test_apply_chat_template": "a template that is built into llama.cpp",
    "test_chat_template": "a template that is built into llama.cpp",
    "test_chat_template_assistant_prefill[prefill1-Wh\\n\\nill]": "one line break between parts",
    "test_cors_options": "no page of another site may ask unless it is named",
    "test_ctx_shift_enabled": "a full context ends an answer here, nothing is dropped from it",
    "test_ctx_shift_disabled_long_prompt": "a prompt that is too long in another model's tokens",
    "test_date_inside_prompt": "a template gets the variables that transformers gives it",
    "test_embedding_content_text_same_as_string": OBJECTS,
    "test_embedding_mixed_input[-False]": "no token to read: the model has no BOS",
    "test_embedding_mixed_input[input3-False]": MIXED,
    "test_embedding_mixed_input[input7-True]": MIXED,
    "test_embedding_mixed_input[input8-False]": OBJECTS,
    "test_embedding_mixed_input[input9-False]": OBJECTS,
    "test_embedding_mixed_input[input10-True]": OBJECTS,
    "test_invalid_chat_completion_req[messages7]": "of two last assistant turns one is continued",
    "test_metrics_prometheus_format": "the longest sequence, a maximum, is no counter",
    "test_nocache_long_input_prompt": "a prompt that is too long in another model's tokens",
    "test_load_split_model": "a model from a hub",
    "test_server_model_aliases_and_tags": "we lack it: one name a model here",
    "test_server_multiple_addresses": "we lack it: one address a server here",
    "test_tokenize_with_bos": "the number of another model's BOS token",
}
FORMS = ("grammar", "schema", "response_format")
"""In the name of a test whose words are those of a form that any model has to keep to."""
ENDLESS = ("test_completion.py", "test_chat_completion.py", "test_ctx_shift.py")
"""Files that count on a model that goes on to its limit."""
PREFLIGHTS = (HTTPStatus.NO_CONTENT, HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)
EXIT = "return code 64"  # the launcher's


def pytest_configure(config: pytest.Config) -> None:
    """Keep the suite from fetching its models, and from expecting the words of one."""
    import utils  # the suite's

    utils.ServerPreset.load_all = staticmethod(lambda: None)
    utils.match_regex = functools.partial(_matches, utils.match_regex)
    server = utils.ServerProcess
    server.make_request = functools.partialmethod(_ask, server.make_request)
    server.make_stream_request = functools.partialmethod(_stream, server.make_stream_request)


def _ask(
    server: Any, asked: Any, method: str, path: str, data: Any = None, *more: Any, **named: Any
) -> Any:
    """Judge a preflight by its headers: a page may ask with any 2xx, and with a 4xx it may not."""
    result = asked(server, method, path, _told(server, data), *more, **named)
    if method == "OPTIONS" and result.status_code in PREFLIGHTS:
        result.status_code = HTTPStatus.OK
    return result


def _stream(
    server: Any, asked: Any, method: str, path: str, data: Any = None, *more: Any, **named: Any
) -> Any:
    return asked(server, method, path, _told(server, data), *more, **named)


def _told(server: Any, data: Any) -> Any:
    """Say with a request what that server's command line says, and that its model never ends."""
    if not isinstance(data, dict):
        return data
    said: dict[str, Any] = {"verbose": True} if server.debug else {}
    if server.reasoning is not None:
        said["chat_template_kwargs"] = {"enable_thinking": server.reasoning != "off"}
    if any(name in os.environ.get("PYTEST_CURRENT_TEST", "") for name in ENDLESS):
        said["ignore_eos"] = True
    if server.n_predict and not {"n_predict", "max_tokens"} & data.keys():
        said["n_predict"] = server.n_predict
    return said | data


def _matches(match: Callable[[str, str], bool], regex: str, text: str) -> bool:
    """Expect any text, but for a form."""
    is_form = any(form in os.environ.get("PYTEST_CURRENT_TEST", "") for form in FORMS)
    return match(regex, text) if is_form else isinstance(text, str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what does not apply."""
    for item in items:
        reason = LEFT_OUT.get(item.path.name) or _about_test(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a test's outcome down, once."""
    if report.when == "call" or (report.when == "setup" and not report.passed):
        outcome, reason = _outcome(report)
        name = report.nodeid.partition("::")[2]
        with Path(os.environ["SUITE_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, outcome, reason]) + "\n")


def _about_test(item: pytest.Item) -> str | None:
    if item.path.name == "test_infill.py" and "SUITE_FIM_MODEL" not in os.environ:
        return "needs a model with fill-in-the-middle tokens (--fim-model)"
    if item.path.name == "test_embedding.py" and "SUITE_EMBEDDING_MODEL" not in os.environ:
        return "needs an embedding model (--embedding-model)"
    names = (item.name, item.name.partition("[")[0])
    return next((TESTS_LEFT_OUT[name] for name in names if name in TESTS_LEFT_OUT), None)


def _outcome(report: pytest.TestReport) -> tuple[str, str]:
    if report.passed:
        return "passed", ""
    if report.skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return "not applicable", text.removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash is not None else str(report.longrepr)
    if EXIT in message:
        return "not applicable", "starts the server with a flag that has no counterpart"
    return "failed", " ".join(message.split())[:300]
