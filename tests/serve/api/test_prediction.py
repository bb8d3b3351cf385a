"""Predicted outputs in the dialects that know them."""

from __future__ import annotations

import json

import pytest

USER = {"role": "user", "content": "hi"}
ROUTES = {
    "/v1/chat/completions": {"messages": [USER]},
    "/v1/completions": {"prompt": "hi"},
    "/completion": {"prompt": "hi"},
}


@pytest.mark.parametrize(("route", "body"), ROUTES.items())
@pytest.mark.parametrize(
    "content", ["a b<s>", [{"type": "text", "text": "a b"}, {"type": "text", "text": "<s>"}]]
)
def test_a_prediction_reaches_the_engine_as_plain_tokens(live, route, body, content):
    prediction = {"type": "content", "content": content}
    answer = live.http.post(route, json=body | {"prediction": prediction})
    assert answer.status_code == 200
    [request] = live.engine.requests
    text = "a b<s>" if isinstance(content, str) else "a b\n<s>"
    assert bytes(request.prediction_token_ids) == text.encode()
    assert request.drafts


@pytest.mark.parametrize(("route", "body"), ROUTES.items())
def test_a_request_can_refuse_drafts(live, route, body):
    prediction = {"type": "content", "content": "a b"}
    live.http.post(route, json=body | {"prediction": prediction, "drafts": False})
    [request] = live.engine.requests
    assert not request.drafts
    assert not request.prediction_token_ids


@pytest.mark.parametrize(
    ("prediction", "named"),
    [
        ({"type": "content", "content": [{"type": "image_url"}]}, "prediction.content.0"),
        ({"type": "content"}, "content"),
        ({"type": "diff", "content": "x"}, "diff"),
        ("text", "prediction"),
    ],
)
def test_a_prediction_that_is_no_text_is_refused_in_words(live, prediction, named):
    response = live.http.post(
        "/v1/chat/completions", json={"messages": [USER], "prediction": prediction}
    )
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
def test_usage_says_what_became_of_the_prediction(live, route):
    prediction = {"type": "content", "content": "four"}
    answer = live.http.post(route, json=ROUTES[route] | {"prediction": prediction}).json()
    details = answer["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] == 3
    assert details["rejected_prediction_tokens"] == 1
    assert answer["timings"]["draft_n"] == 5
    assert answer["timings"]["draft_n_accepted"] == 2


def test_the_usage_of_a_stream_says_it_too(live):
    body = ROUTES["/v1/chat/completions"] | {
        "prediction": {"type": "content", "content": "four"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    lines = live.http.post("/v1/chat/completions", json=body).text.splitlines()
    *_, last, _ = [line.removeprefix("data: ") for line in lines if line.startswith("data")]
    details = json.loads(last)["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] == 3
    assert details["rejected_prediction_tokens"] == 1
