"""The published OpenAPI document is complete, and what the routes do is what it says."""

import json
import os
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.app import create_app
from serve.config import AccessSettings, Settings

EXAMPLES = int(os.environ.get("EDGESMITH_FUZZ_EXAMPLES", "4"))
"""Bodies a route; `make fuzz` tries many more."""

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
load_all_checks()


@pytest.fixture(scope="module")
def app(scripted_engine):
    return create_app(scripted_engine(), Settings(access=AccessSettings(allowed_hosts=("*",))))


@pytest.fixture
def api(app):
    return schemathesis.openapi.from_asgi("/schema/openapi.json", app)


def test_no_request_makes_a_route_break_its_schema(api):
    broken = []
    for result in api.get_all_operations():
        operation = result.ok()
        try:
            fuzz(operation)
        except (AssertionError, BaseExceptionGroup) as error:
            broken.append(f"{operation.label}: {error}")
    assert not broken, "\n\n".join(broken)


def fuzz(operation):
    @hypothesis_settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case):
        case.call_and_validate(checks=CHECKS)

    check()


def document(live) -> dict:
    return live.http.get("/schema/openapi.json").json()


def test_every_reference_resolves(live):
    published = document(live)
    named = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(published))
    assert set(named) <= set(published["components"]["schemas"])


def test_streams_are_described_beside_whole_answers(live):
    paths = document(live)["paths"]
    for path, media_type, chunk in (
        ("/v1/chat/completions", "text/event-stream", "ChatChunk"),
        ("/v1/completions", "text/event-stream", "Completion"),
        ("/v1/responses", "text/event-stream", "ResponseEvent"),
        ("/v1/messages", "text/event-stream", "AnthropicEvent"),
        ("/infill", "text/event-stream", "NativePiece"),
        ("/api/chat", "application/x-ndjson", "OllamaChatPiece"),
    ):
        content = paths[path]["post"]["responses"]["200"]["content"]
        assert set(content) == {"application/json", media_type}, path
        assert chunk in json.dumps(content[media_type]), path


def test_each_dialect_has_its_own_envelope(live):
    paths = document(live)["paths"]
    for path, envelope in (
        ("/v1/chat/completions", "ErrorEnvelope"),
        ("/v1/messages", "AnthropicError"),
        ("/api/chat", "OllamaError"),
    ):
        refusal = paths[path]["post"]["responses"]["400"]["content"]["application/json"]
        assert refusal["schema"]["$ref"].endswith(envelope)


def test_keys_are_asked_for_where_they_are_needed(live, serving):
    assert document(live)["paths"]["/v1/models"]["get"]["security"] == [{}]
    guarded = serving(api_keys=("s3cret",))
    answer = guarded.http.get("/schema/openapi.json", headers={"x-api-key": "s3cret"}).json()
    assert answer["paths"]["/v1/models"]["get"]["security"] == [{"bearer": []}, {"api_key": []}]
    assert answer["paths"]["/health"]["get"]["security"] == [{}]
    assert set(answer["components"]["securitySchemes"]) == {"bearer", "api_key"}
