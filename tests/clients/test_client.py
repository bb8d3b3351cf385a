"""The synchronous client, on a fake transport and over a real socket."""

import json
import socket

import httpx
import pytest

from clients import Client, RetryPolicy, errors, wire
from clients.exchange import address

AT_ONCE = RetryPolicy(base_seconds=0.0)


def client(*answers, base_url="http://server:1/v1", **options) -> tuple[Client, list]:
    """A client whose server gives these answers in turn, and the list of what it was asked."""
    seen: list[httpx.Request] = []
    waiting = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    options.setdefault("retry", AT_ONCE)
    return Client(base_url, transport=httpx.MockTransport(handle), **options), seen


def ok(document: object) -> httpx.Response:
    return httpx.Response(200, json=document)


def events(*chunks: object) -> httpx.Response:
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return httpx.Response(200, text="".join(f"data: {line}\n\n" for line in lines))


CHAT = {"choices": [{"message": {"content": "hi", "new_field": 1}, "finish_reason": "stop"}]}


def test_chat_sends_one_user_turn_for_a_string_and_only_the_options_given():
    talk, seen = client(ok(CHAT), model="tiny")
    answer = talk.chat("hello", temperature=0.0, extra={"cache_prompt": True})
    assert json.loads(seen[0].content) == {
        "messages": [{"role": "user", "content": "hello"}],
        "model": "tiny",
        "temperature": 0.0,
        "cache_prompt": True,
    }
    assert (answer.text, answer.finish_reason) == ("hi", "stop")


def test_a_model_given_with_a_request_wins_over_the_clients():
    talk, seen = client(ok(CHAT), model="tiny")
    talk.chat("x", model="other")
    assert json.loads(seen[0].content)["model"] == "other"


def test_nulls_and_missing_fields_of_other_servers_are_read():
    document = {"id": None, "choices": [{"message": {"content": None}}], "usage": None, "x": {}}
    talk, _ = client(ok(document))
    assert talk.chat("x").text == ""


@pytest.mark.parametrize(
    ("base_url", "models", "health"),
    [
        ("http://h:1", "http://h:1/v1/models", "http://h:1/health"),
        ("http://h:1/", "http://h:1/v1/models", "http://h:1/health"),
        ("http://h:1/v1/", "http://h:1/v1/models", "http://h:1/health"),
        ("https://h/proxy/v1", "https://h/proxy/v1/models", "https://h/proxy/health"),
        ("https://h/openai/v3", "https://h/openai/v3/models", "https://h/openai/health"),
    ],
)
def test_base_urls_with_and_without_version_find_both_kinds_of_route(base_url, models, health):
    where = address(base_url)
    assert (where.url("/v1/models"), where.url("/health")) == (models, health)


@pytest.mark.parametrize("base_url", ["localhost:8080", "ftp://h/v1", "http://", "http://[::1"])
def test_what_is_no_http_address_is_refused(base_url):
    with pytest.raises(errors.UsageError, match="base URL"):
        Client(base_url)


def test_the_key_goes_out_as_a_bearer_token():
    talk, seen = client(ok({"data": []}), api_key="secret")
    talk.models()
    assert seen[0].headers["authorization"] == "Bearer secret"


def test_every_plain_route_is_decoded():
    talk, seen = client(
        ok({"data": [{"id": "tiny", "meta": {"n_ctx": 2048}}]}),
        ok({"status": "ok"}),
        ok({"total_slots": 4}),
        ok({"tokens": [1, 2]}),
        ok({"content": "ab"}),
        ok({"prompt": "<user>"}),
        ok({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}),
        ok({"choices": [{"text": "b"}]}),
        ok({"content": "mid", "stop": True, "stop_type": "limit", "tokens_predicted": 2}),
    )
    assert talk.models()[0].context_length == 2048
    assert talk.health().status == "ok"
    assert talk.props().total_slots == 4
    assert talk.tokenize("ab") == [1, 2]
    assert talk.detokenize([1, 2]) == "ab"
    assert talk.apply_template("hi") == "<user>"
    assert talk.embeddings(["a", "b"]) == [[1.0], [2.0]]
    assert talk.complete("a", suffix="c").text == "b"
    infill = talk.fim("a", "c", context=[{"filename": "n.py", "text": "x"}], max_tokens=2)
    assert (infill.text, infill.finish_reason, infill.usage.completion_tokens) == (
        "mid",
        "length",
        2,
    )
    assert json.loads(seen[-1].content) == {
        "input_prefix": "a",
        "input_suffix": "c",
        "prompt": "",
        "input_extra": [{"filename": "n.py", "text": "x"}],
        "n_predict": 2,
    }


def test_an_answer_of_another_form_is_a_protocol_error_that_quotes_it():
    talk, _ = client(ok({"surprise": 1}))
    with pytest.raises(errors.ProtocolError, match="surprise"):
        talk.models()


def test_a_stream_yields_text_and_knows_usage_and_reason_at_its_end():
    talk, seen = client(
        events(
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
            {"choices": [{"index": 0, "delta": {"content": "he"}}]},
            {"choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": "length"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            "[DONE]",
        )
    )
    with talk.stream_chat("hi") as stream:
        assert [chunk.text for chunk in stream] == ["", "he", "y", ""]
    assert stream.usage == wire.Usage(prompt_tokens=3, completion_tokens=2)
    assert stream.finish_reason == "length"
    assert json.loads(seen[0].content)["stream_options"] == {"include_usage": True}


def test_an_infill_stream_ends_with_its_stop_event():
    talk, _ = client(events({"content": "a"}, {"content": "", "stop": True, "tokens_predicted": 1}))
    with talk.stream_fim("x", "y") as stream:
        assert "".join(chunk.text for chunk in stream) == "a"
    assert stream.usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "out of memory", "code": 500}}, errors.InternalServerError),
        (
            {"error": {"message": "too long", "code": "context_length_exceeded"}},
            errors.ContextLengthError,
        ),
        ({"error": "stopped"}, errors.InternalServerError),
        ("not json", errors.ProtocolError),
        ({"choices": 3}, errors.ProtocolError),
    ],
)
def test_an_error_inside_a_stream_is_raised_where_it_stands(event, kind):
    talk, _ = client(events({"choices": [{"delta": {"content": "a"}}]}, event))
    got = []
    with talk.stream_chat("x") as stream, pytest.raises(kind):
        got.extend(chunk.text for chunk in stream)


def test_unreachable_is_tried_again_then_says_which_url_and_what_to_start():
    refused = httpx.ConnectError("refused")
    talk, seen = client(refused, refused, refused)
    with pytest.raises(errors.UnreachableError, match=r"http://server:1/v1/models.*serve"):
        talk.models()
    assert len(seen) == 3


def test_a_busy_server_that_names_a_time_is_asked_again():
    talk, seen = client(httpx.Response(503, headers={"retry-after": "0"}), ok(CHAT))
    assert talk.chat("x").text == "hi"
    assert len(seen) == 2


def test_a_generation_that_broke_is_not_repeated_but_a_listing_is():
    talk, seen = client(httpx.ReadError("reset"))
    with pytest.raises(errors.ConnectionLostError):
        talk.chat("x")
    assert len(seen) == 1
    talk, seen = client(httpx.ReadError("reset"), ok({"data": []}))
    assert talk.models() == []


def test_silence_past_the_limit_says_how_long_it_was():
    talk, _ = client(httpx.ReadTimeout(""))
    with pytest.raises(errors.TimedOutError, match="600 s"):
        talk.chat("x")


def test_closing_a_stream_over_a_socket_reaches_the_server(fake_server):
    fake_server.is_endless = True
    with Client(fake_server.base_url) as talk, talk.stream_chat("x") as stream:
        first = next(iter(stream))
        stream.close()
        assert first.text == "def "
        assert fake_server.client_left.wait(timeout=30)


def test_leaving_the_loop_early_reaches_the_server_too(fake_server):
    fake_server.is_endless = True
    with Client(fake_server.base_url) as talk:
        with talk.stream_complete("x") as stream:
            for _ in stream:
                break
        assert fake_server.client_left.wait(timeout=30)


def test_a_stream_cut_by_the_server_is_not_taken_for_whole(fake_server):
    fake_server.cuts_stream = True
    got = []
    talk = Client(fake_server.base_url)
    with talk, talk.stream_chat("x") as stream, pytest.raises(errors.ConnectionLostError):
        got.extend(chunk.text for chunk in stream)
    assert got == fake_server.words


def test_nothing_listening_is_unreachable():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    talk = Client(f"http://127.0.0.1:{port}", retry=AT_ONCE)
    with talk, pytest.raises(errors.UnreachableError, match=str(port)):
        talk.health()


def test_a_wrong_key_carries_the_servers_code_and_request(fake_server):
    fake_server.api_key = "right"
    talk = Client(fake_server.base_url, api_key="wrong")
    with talk, pytest.raises(errors.AuthenticationError) as caught:
        talk.chat("x")
    assert (caught.value.code, caught.value.request_id) == ("invalid_api_key", "req-7")
