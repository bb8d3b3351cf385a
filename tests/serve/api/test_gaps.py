"""Editors' wishes and what is read behind their back, over a real socket."""

import pytest

from serve.config import EngineSettings, FimSettings, Settings
from serve.engine.config import AdapterConfig
from serve.engine.request import Priority

FILE = "".join(f"line {number}\n" for number in range(180))
AT_ONCE = Settings(fim=FimSettings(pause_seconds=0))


def infill(live, **body):
    asked = {"input_prefix": FILE, "input_suffix": "\nend\nof file\n", "n_predict": 8} | body
    response = live.http.post("/infill", json=asked)
    assert response.status_code == 200


def sent(live, number=-1) -> str:
    return live.engine.detokenize(live.engine.requests[number].prompt_token_ids)


def test_a_wish_is_answered_from_the_lines_around_and_the_rest_is_read_in_the_background(serving):
    live = serving(AT_ONCE)
    live.engine.seconds_per_prompt_row = 0.02
    infill(live, t_max_prompt_ms=500)
    live.engine.wait_for_requests(3)
    live.engine.wait_for_running(0)
    assert len(live.engine.requests[0].prompt_token_ids) < 300
    assert sent(live, 0).startswith("<s><pre>line 1")
    background = live.engine.requests[1:]
    assert [request.priority for request in background] == [
        Priority.INTERACTIVE,
        Priority.BACKGROUND,
    ]
    assert {request.max_tokens for request in background} == {0}
    assert FILE in sent(live, 2)


def test_what_was_read_in_the_background_is_where_typing_goes_on(serving):
    live = serving(AT_ONCE)
    live.engine.seconds_per_prompt_row = 0.02
    infill(live, t_max_prompt_ms=500)
    live.engine.wait_for_requests(3)
    live.engine.wait_for_running(0)
    infill(live, prompt="1", t_max_prompt_ms=500)
    assert sent(live).startswith(f"<s><pre>{FILE}<suf>")
    assert sent(live).endswith("<mid>1")


def test_what_is_read_for_an_adapter_is_read_with_it_and_looked_for_among_its_own(serving):
    odd = AdapterConfig(name="odd", file="/models/odd.gguf")
    live = serving(Settings(fim=AT_ONCE.fim, engine=EngineSettings(adapters=(odd,))))
    live.engine.seconds_per_prompt_row = 0.02
    infill(live, t_max_prompt_ms=500, lora=[{"id": 0, "scale": 0.5}])
    live.engine.wait_for_requests(3)
    live.engine.wait_for_running(0)
    assert {request.adapters for request in live.engine.requests} == {((0, 0.5),)}
    assert live.engine.looked_up == {((0, 0.5),)}
    for path in ("/v1/completions", "/v1/fim/completions"):
        live.engine.looked_up.clear()
        body = {"model": "odd", "prompt": FILE, "suffix": "\nend\n"}
        assert live.http.post(path, json=body).status_code == 200
        assert live.engine.looked_up == {((0, 1.0),)}


def test_a_warm_up_has_no_wish(serving):
    live = serving(AT_ONCE)
    live.engine.seconds_per_prompt_row = 0.02
    infill(live, t_max_prompt_ms=1, n_predict=0)
    assert FILE in sent(live)


@pytest.mark.parametrize("fim", [FimSettings(cut=False), FimSettings(prompt_ms=1e9)])
def test_the_wish_can_be_switched_off_or_be_long(serving, fim):
    live = serving(Settings(fim=fim))
    live.engine.seconds_per_prompt_row = 0.02
    infill(live, t_max_prompt_ms=500 if not fim.cut else None)
    assert FILE in sent(live)


def test_a_configured_wish_holds_for_editors_that_send_none(serving):
    live = serving(Settings(fim=FimSettings(prompt_ms=500)))
    live.engine.seconds_per_prompt_row = 0.02
    infill(live)
    assert FILE not in sent(live)


def test_the_plain_prompt_is_one_setting_away(serving):
    live = serving(Settings(fim=FimSettings(keep_split=False)))
    infill(live, prompt="1")
    assert sent(live) == f"<s><pre>{FILE}1<suf>\nend\nof file\n<mid>"


def test_suffix_first_is_one_setting_away(serving):
    live = serving(Settings(fim=FimSettings(order="spm")))
    infill(live, prompt="1")
    assert sent(live) == f"<s><suf>\nend\nof file\n<pre>{FILE}1<mid>"


def test_one_keys_window_never_shows_in_anothers_prompt(serving):
    live = serving(api_keys=["one", "two"])
    body = {"input_prefix": FILE, "input_suffix": "\nend\n", "n_predict": 8}
    for key, prefix in (("one", FILE), ("two", FILE[FILE.index("line 50") :])):
        headers = {"Authorization": f"Bearer {key}"}
        live.http.post("/infill", json=body | {"input_prefix": prefix}, headers=headers)
    assert "line 49" not in sent(live)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/fim/completions"])
def test_other_routes_take_the_same_way(live, path):
    live.http.post(path, json={"prompt": FILE, "suffix": "\nend\n"})
    live.http.post(path, json={"prompt": f"{FILE}1 typed", "suffix": "\nend\n"})
    assert sent(live) == f"<s><pre>{FILE}<suf>\nend\n<mid>1"
    assert live.engine.requests[-1].begins_with == " typed"
