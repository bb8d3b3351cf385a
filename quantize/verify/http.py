"""Parity over HTTP: does the server render, tokenize, stop and answer as the file in memory does?

The server is asked for its own view; nothing of it is re-implemented here.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quantize.config import VerifyConfig
from quantize.errors import ServerAbsentError, ServerError, SourceError
from quantize.llama.session import LlamaSession
from quantize.serve_process import Server, ServerProcess
from quantize.verify.cases import Case, Message
from quantize.verify.logits import greedy_with_gaps
from quantize.verify.prompts import ids_difference, text_difference
from quantize.verify.result import Check, NotRun
from quantize.verify.texts import Render
from quantize.verify.tokens import prompt_ids

FLAGS = ("--slots", "1", "--set", "tools.generic=false")
"""Templates that know no tools are compared as they are, not with tools put into words."""
_FORCING_BIAS = 1000.0
_CONTEXT = 2048
_MAX_ADDED_TOKENS = 32


def check_server(
    model: Path, render: Render | None, cases: Sequence[Case], config: VerifyConfig
) -> tuple[list[Check], list[NotRun]]:
    """Serve one file and compare; `render` is the reference's, None for a model with no template.

    Where the server's packages are missing, the hop is returned as not run.
    """
    hop = f"{model.name} -> HTTP"
    try:
        with ServerProcess(model, context=_CONTEXT, arguments=FLAGS) as server:
            checks = compare_server(hop, server, model, render=render, cases=cases, config=config)
            return checks, []
    except ServerAbsentError as error:
        return [], [NotRun(hop=hop, reason=str(error))]
    except ServerError as error:
        return [Check(hop=hop, name="server", passed=False, detail=str(error))], []


def compare_server(
    hop: str,
    server: Server,
    model: Path,
    *,
    render: Render | None,
    cases: Sequence[Case],
    config: VerifyConfig,
) -> list[Check]:
    """Compare a running server with the file it serves."""
    make = functools.partial(Check, hop=hop)
    rendered = _rendered(render, cases)
    with LlamaSession(model, n_ctx=_CONTEXT) as session:
        checks = [_compare_templates(make, server, rendered)] if render else []
        texts = [text for _, text in rendered] or [str(c.messages[-1]["content"]) for c in cases]
        checks.append(_compare_token_ids(make, server, session, texts))
        checks.append(_compare_added_tokens(make, server, session))
        checks.append(_compare_stops(make, server, session))
        if render:
            checks.append(_compare_prompt_lengths(make, server, session, rendered))
        if all(check.passed for check in checks):
            asked = _questions(rendered, texts)[: config.num_prompts]
            checks.append(_compare_answers(make, server, session, asked, config))
    return checks


def _rendered(render: Render | None, cases: Sequence[Case]) -> list[tuple[Case, str]]:
    pairs = []
    for case in cases if render else ():
        try:
            assert render is not None  # the loop is empty otherwise
            pairs.append((case, render(case)))
        except SourceError:
            continue  # the template takes no such messages
    return pairs


def _compare_templates(
    make: Callable[..., Check], server: Server, rendered: Sequence[tuple[Case, str]]
) -> Check:
    for case, wanted in rendered:
        body = {"messages": case.messages, "tools": case.tools}
        found = server.ask("/apply-template", body)["prompt"]
        difference = text_difference(wanted, found)
        if difference is not None:
            return make(name="prompts", passed=False, detail=f"{case.name}: {difference}")
    return make(name="prompts", passed=bool(rendered), detail=f"{len(rendered)} prompts equal")


def _compare_token_ids(
    make: Callable[..., Check], server: Server, session: LlamaSession, texts: Sequence[str]
) -> Check:
    for number, text in enumerate(texts, start=1):
        wanted = session.tokenize(text, parse_special=True, add_special=False)
        body = {"content": text, "add_special": False, "parse_special": True}
        difference = ids_difference(wanted, server.ask("/tokenize", body)["tokens"])
        if difference is not None:
            return make(name="token ids", passed=False, detail=f"prompt {number}: {difference}")
    return make(name="token ids", passed=True, detail=f"{len(texts)} texts equal")


def _compare_added_tokens(
    make: Callable[..., Check], server: Server, session: LlamaSession
) -> Check:
    controls = (each for each in range(session.n_vocab) if session.is_control(each))
    chosen = [each for each, _ in zip(controls, range(_MAX_ADDED_TOKENS), strict=False)]
    for token_id in chosen:
        text = session.piece(token_id)
        found = server.ask("/tokenize", {"content": text, "parse_special": True})["tokens"]
        back = server.ask("/detokenize", {"tokens": [token_id]})["content"]
        if found != [token_id] or back != text:
            detail = f"{text!r} is token {token_id} in the file, {found} and {back!r} in the server"
            return make(name="added tokens", passed=False, detail=detail)
    return make(name="added tokens", passed=True, detail=f"{len(chosen)} come back as they were")


def _compare_stops(make: Callable[..., Check], server: Server, session: LlamaSession) -> Check:
    """Force each stop token, and one that is none, and see whether the answer ends there."""
    name, stops = "EOS and stop set", session.stop_ids()
    wanted_eos = session.special_names().get("eos_token", "")
    found_eos = server.ask("/props")["eos_token"]
    if wanted_eos != found_eos:
        detail = f"the EOS is {wanted_eos!r} in the file and {found_eos!r} in the server"
        return make(name=name, passed=False, detail=detail)
    word = next(i for i in range(session.n_vocab) if i not in stops and not session.is_control(i))
    for token_id in [*stops, word]:
        answer = server.ask("/completion", _forced(token_id))
        ends, should = answer["stop_type"] == "eos", token_id in stops
        if ends != should:
            piece = session.piece(token_id)
            said = "does not end" if should else "ends"
            detail = f"token {token_id} ({piece!r}) {said} a generation in the server"
            return make(name=name, passed=False, detail=detail)
    return make(name=name, passed=True, detail=f"EOS {found_eos!r}, {len(stops)} stop tokens equal")


def _forced(token_id: int) -> dict[str, Any]:
    bias = {str(token_id): _FORCING_BIAS}
    return {"prompt": "a", "n_predict": 2, "temperature": 0, "logit_bias": bias}


def _compare_prompt_lengths(
    make: Callable[..., Check],
    server: Server,
    session: LlamaSession,
    rendered: Sequence[tuple[Case, str]],
) -> Check:
    """Compare how many tokens a chat request reads: a doubled BOS is one too many."""
    plain = [(case, text) for case, text in rendered if case.tools is None]
    for case, text in plain:
        wanted = len(prompt_ids(session, text))
        answer = server.ask("/v1/chat/completions", _chat(case.messages, 1))
        found = answer["usage"]["prompt_tokens"]
        if wanted != found:
            detail = (
                f"{case.name}: {wanted} tokens with one BOS where due, the server reads {found}"
            )
            return make(name="BOS", passed=False, detail=detail)
    return make(name="BOS", passed=True, detail=f"never doubled in {len(plain)} chats")


Question = tuple[str, str, dict[str, Any]]
"""A name, the prompt as text, and what a request holds to have it read."""


def _questions(rendered: Sequence[tuple[Case, str]], texts: Sequence[str]) -> list[Question]:
    if rendered:
        return [(c.name, text, {"messages": c.messages}) for c, text in rendered if not c.tools]
    return [("text", text, {"prompt": text}) for text in texts if text]


def _compare_answers(
    make: Callable[..., Check],
    server: Server,
    session: LlamaSession,
    asked: Sequence[Question],
    config: VerifyConfig,
) -> Check:
    """Compare greedy text; a difference counts only where no two tokens were nearly tied."""
    name, equal, ties = "greedy text", 0, 0
    for label, text, body in asked:
        tokens, gaps = greedy_with_gaps(session, prompt_ids(session, text), config.greedy_tokens)
        found = _answer(server, body, config.greedy_tokens)
        difference = text_difference(_text(session, tokens), found.rstrip("\ufffd"))
        if difference is None:
            equal += 1
        elif min(gaps) <= config.server_tie_gap_logits:
            ties += 1
        else:
            return make(name=name, passed=False, detail=f"{label}: {difference}")
    detail = f"{equal} of {len(asked)} answers equal for {config.greedy_tokens} tokens"
    if ties:
        detail += f", {ties} where two tokens were nearly tied"
    figures = {"verify_http_equal_answers": equal, "verify_http_answers": len(asked)}
    return make(name=name, passed=bool(asked), detail=detail, figures=figures)


def _answer(server: Server, body: dict[str, Any], count: int) -> str:
    if "messages" in body:
        answer = server.ask("/v1/chat/completions", _chat(body["messages"], count))
        return answer["choices"][0]["message"]["content"] or ""
    asked = {**body, "max_tokens": count, "temperature": 0, "repeat_penalty": 1.0}
    return str(server.ask("/v1/completions", asked)["choices"][0]["text"])


def _chat(messages: list[Message], count: int) -> dict[str, Any]:
    return {"messages": messages, "max_tokens": count, "temperature": 0, "repeat_penalty": 1.0}


def _text(session: LlamaSession, tokens: Sequence[int]) -> str:
    """Return the text of tokens up to the stop, without a character that is not finished."""
    kept = [token for token in tokens if not session.is_end(token)]
    raw = b"".join(session.piece_bytes(token, special=False) for token in kept)
    return raw.decode("utf-8", errors="ignore")
