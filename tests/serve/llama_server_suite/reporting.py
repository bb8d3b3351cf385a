"""A pytest plugin that the suite runs with: leaves out what does not apply, writes results down."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import pytest

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
    "test_anthropic_tool_use_basic": "SmolLM2's chat template knows no tools",
    "test_chat_template_assistant_prefill": "reads llama-server's own `__verbose` field",
    "test_load_split_model": "a model from a hub",
    "test_no_ui": "llama-server's own web page",
    "test_server_model_aliases_and_tags": "one name a model here",
    "test_server_multiple_addresses": "one address a server here",
    "test_tokenize_with_bos": "the number of another model's BOS token",
}
WORDS = ("match_regex", "re_content", "n_prompt", "n_predicted")
"""What a test uses that knows the words or the token counts of the suite's own model."""
EXIT = "return code 64"  # the launcher's


def pytest_configure(config: pytest.Config) -> None:
    """Keep the suite from fetching its models."""
    import utils  # the suite's

    utils.ServerPreset.load_all = staticmethod(lambda: None)


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
    name = item.name.partition("[")[0]
    if name in TESTS_LEFT_OUT:
        return TESTS_LEFT_OUT[name]
    function: Any = getattr(item, "function", None)
    source = inspect.getsource(function) if function else ""
    used = next((word for word in WORDS if word in source), None)
    return f"depends on the words or tokens of another model ({used})" if used else None


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
