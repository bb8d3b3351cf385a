"""Gaps of a model without fill-in-the-middle tokens, filled by asking where the settings say so."""

import pytest

from serve.config import FimSettings, Settings

NO_TOKENS = {f"fim_{name}_token_id": None for name in ("pre", "suf", "mid")}
BEFORE, AFTER = "def f():\n    ret", "\n\nf()\n"
ROUTES = {
    "/infill": {"input_prefix": "def f():\n", "prompt": "    ret", "input_suffix": AFTER},
    "/v1/completions": {"prompt": BEFORE, "suffix": AFTER},
    "/v1/fim/completions": {"prompt": BEFORE, "suffix": AFTER},
    "/api/generate": {"prompt": BEFORE, "suffix": AFTER, "stream": False},
}


@pytest.mark.parametrize("path", ROUTES)
def test_the_cursors_line_is_begun_and_the_fence_ends_the_answer(serving, path):
    live = serving(Settings(fim=FimSettings(instruct=True)), **NO_TOKENS)
    response = live.http.post(path, json=ROUTES[path])
    assert response.status_code == 200, response.text
    [request] = live.engine.requests
    prompt = live.engine.detokenize(request.prompt_token_ids)
    assert f"[user]{BEFORE}<CURSOR>{AFTER}" in prompt
    assert prompt.endswith("[assistant]```\n    ret")
    assert request.stop == ("\n```",)


@pytest.mark.parametrize("path", ROUTES)
def test_it_is_off_unless_the_settings_say_so(serving, path):
    live = serving(**NO_TOKENS)
    response = live.http.post(path, json=ROUTES[path])
    assert response.status_code == 400
    assert "fill-in-the-middle" in response.text


def test_a_model_that_has_the_tokens_uses_them(serving):
    live = serving(Settings(fim=FimSettings(instruct=True)))
    assert live.http.post("/v1/completions", json=ROUTES["/v1/completions"]).status_code == 200
    assert "<CURSOR>" not in live.engine.detokenize(live.engine.requests[0].prompt_token_ids)


def test_an_infill_beyond_the_context_is_cut_far_from_the_cursor(serving):
    live = serving(Settings(fim=FimSettings(instruct=True)), **NO_TOKENS)
    long = {"input_prefix": "a" * 3000, "prompt": "here", "input_suffix": "there" + "b" * 3000}
    answer = live.http.post("/infill", json=long | {"n_predict": 8}).json()
    assert answer["truncated"] is True
    prompt = live.engine.detokenize(live.engine.requests[0].prompt_token_ids)
    assert "here<CURSOR>there" in prompt
    assert len(live.engine.requests[0].prompt_token_ids) <= 2000 - 8
