import json

import pytest

from clients import errors


def answer(status: int, document: object, **headers: str) -> errors.ServerError:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return errors.from_response(status, names, body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (404, errors.NotFoundError),
        (422, errors.BadRequestError),
        (429, errors.OverloadedError),
        (500, errors.InternalServerError),
        (501, errors.NotFoundError),
        (302, errors.InternalServerError),
    ],
)
def test_each_status_has_its_kind(status, kind):
    assert type(answer(status, {"error": {"message": "m"}})) is kind


def test_message_code_and_request_id_are_kept_and_shown():
    error = answer(
        404, {"error": {"message": "no model x", "code": "model_not_found"}}, x_request_id="r1"
    )
    assert (error.message, error.code, error.status) == ("no model x", "model_not_found", 404)
    assert str(error) == "no model x (HTTP 404, model_not_found, request r1)"


def test_context_overflow_carries_both_numbers():
    error = answer(
        400,
        {
            "error": {
                "code": 400,
                "message": "too long",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 4096,
            }
        },
    )
    assert isinstance(error, errors.ContextLengthError)
    assert (error.num_prompt_tokens, error.context_length) == (9000, 4096)


@pytest.mark.parametrize(
    "document",
    [{"error": "no such thing"}, {"detail": "no such thing"}, {"message": "no such thing"}],
)
def test_other_servers_error_bodies_are_understood(document):
    assert answer(404, document).message == "no such thing"


def test_a_body_that_is_not_json_is_quoted_on_one_short_line():
    error = answer(502, b"<html>\n<h1>Bad\xff gateway</h1>" + b"x" * 5000)
    assert "Bad\ufffd gateway" in error.message
    assert "\n" not in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b'{"error": null}'])
def test_any_body_gives_an_error(body):
    assert isinstance(answer(500, body), errors.InternalServerError)


def test_retry_after_is_read_in_seconds_and_dates_are_left():
    assert answer(429, {}, retry_after="2").retry_after_seconds == 2.0
    assert answer(429, {}, retry_after="Wed, 21 Oct 2026 07:28:00 GMT").retry_after_seconds is None
