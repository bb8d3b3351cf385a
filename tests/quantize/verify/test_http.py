"""The HTTP hop asks a real server, and names what a lying one says differently."""

from pathlib import Path

import pytest

from quantize import serve_process
from quantize.config import VerifyConfig
from quantize.convert.hf_folder import load_tokenizer
from quantize.errors import ServerError
from quantize.llama.gguf_header import read_header
from quantize.serve_process import ServerProcess
from quantize.verify import http as verify_http
from quantize.verify.cases import CASES
from quantize.verify.http import FLAGS, check_server, compare_server
from quantize.verify.prompts import hf_prompt

pytest.importorskip("litestar", reason="the server's packages are not installed")

CONFIG = VerifyConfig(num_prompts=3, greedy_tokens=8, server_tie_gap_logits=0.1)


@pytest.fixture(scope="module")
def server(tiny_merged):
    with ServerProcess(tiny_merged / "f16.gguf", context=1024, arguments=FLAGS) as process:
        yield process


@pytest.fixture(scope="module")
def compare(tiny_merged):
    tokenizer = load_tokenizer(tiny_merged / "merged")

    def run(server, cases=CASES):
        return compare_server(
            "f16 -> HTTP",
            server,
            tiny_merged / "f16.gguf",
            render=lambda case: hf_prompt(tokenizer, case),
            cases=cases,
            config=CONFIG,
        )

    return run


class Lying:
    """Pass questions on and change the answers of one route."""

    def __init__(self, server, route, change):
        self.server, self.route, self.change = server, route, change

    def ask(self, path, body=None):
        answer = self.server.ask(path, body)
        return self.change(answer, body) if path == self.route else answer


def test_a_sound_server_passes_every_check(server, compare):
    checks = compare(server)
    assert not [check for check in checks if not check.passed]
    assert [check.name for check in checks] == [
        "prompts",
        "token ids",
        "added tokens",
        "EOS and stop set",
        "BOS",
        "greedy text",
    ]
    assert checks[0].detail == f"{len(CASES)} prompts equal"


def with_field(key, edit):
    return lambda answer, _body: answer | {key: edit(answer[key])}


def never_ends(answer, _body):
    return answer | {"stop_type": "limit"}


def always_ends(answer, _body):
    return answer | {"stop_type": "eos"}


def one_more(answer, _body):
    usage = answer["usage"]
    return answer | {"usage": usage | {"prompt_tokens": usage["prompt_tokens"] + 1}}


def other_words(answer, _body):
    (choice,) = answer["choices"]
    return answer | {"choices": [choice | {"message": {"content": "Sure! Here it is"}}]}


@pytest.mark.parametrize(
    ("case", "name", "said"),
    [
        (
            (
                "/apply-template",
                with_field("prompt", lambda text: text.replace("assistant\n", "assistant")),
            ),
            "prompts",
            "plain: first difference at character",
        ),
        (("/tokenize", with_field("tokens", lambda ids: [*ids, 5])), "token ids", "after the hop"),
        (("/detokenize", with_field("content", str.upper)), "added tokens", "in the server"),
        (
            ("/props", with_field("eos_token", lambda _: "</s>")),
            "EOS and stop set",
            "'<|im_end|>' in the file and '</s>' in the server",
        ),
        (("/completion", never_ends), "EOS and stop set", "does not end a generation"),
        (("/completion", always_ends), "EOS and stop set", "ends a generation in the server"),
        (("/v1/chat/completions", one_more), "BOS", "BOS where due"),
        (("/v1/chat/completions", other_words), "greedy text", "first difference"),
    ],
)
def test_a_server_that_answers_otherwise_is_caught(server, compare, case, name, said):
    checks = compare(Lying(server, *case))
    failed = [check for check in checks if not check.passed]
    assert failed[0].name == name
    assert failed[0].hop == "f16 -> HTTP"
    assert said in failed[0].detail


def test_a_server_of_the_base_without_its_adapter_is_caught(base_gguf, compare):
    with ServerProcess(base_gguf, context=1024, arguments=FLAGS) as unmerged:
        failed = [check for check in compare(unmerged) if not check.passed]
    assert [check.name for check in failed] == ["greedy text"]
    assert "first difference" in failed[0].detail


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("wrong template", ("prompts", "plain: first difference at character")),
        ("swapped EOS", ("EOS and stop set", "'<|im_end|>' in the file and '<|im_start|>'")),
        ("unwanted BOS", ("BOS", "with one BOS where due")),
        ("permuted head", ("greedy text", "first difference")),
        ("wrong rope base", ("greedy text", "first difference")),
    ],
)
def test_a_server_of_a_faulty_file_is_caught(tiny_merged, faulty, compare, fault, wanted):
    served = faulty(tiny_merged / "f16.gguf", fault)
    with ServerProcess(served, context=1024, arguments=FLAGS) as server:
        failed = [check for check in compare(server, CASES[:3]) if not check.passed]
    assert failed[0].hop == "f16 -> HTTP"
    assert failed[0].name == wanted[0]
    assert wanted[1] in failed[0].detail


def test_a_server_that_cannot_start_fails_the_hop_with_its_words(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    checks, not_run = check_server(broken, None, CASES, CONFIG)
    assert not not_run
    (check,) = checks
    assert not check.passed
    assert check.hop == "broken.gguf -> HTTP"
    assert "did not start" in check.detail


def test_an_absent_server_is_not_run_and_never_passed(tiny_merged, tmp_path, monkeypatch):
    package = tmp_path / "serve"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import no_such_package_here\n")
    monkeypatch.setattr(serve_process, "_ROOT", tmp_path)
    checks, not_run = verify_http.check_server(tiny_merged / "f16.gguf", None, CASES, CONFIG)
    assert checks == []
    assert not_run[0].hop == "f16.gguf -> HTTP"
    assert "no_such_package_here" in not_run[0].reason


def test_a_refused_question_says_route_and_status(server):
    with pytest.raises(ServerError, match="POST /tokenize got status 400"):
        server.ask("/tokenize", {"content": 3})


def test_a_file_without_a_template_is_compared_on_plain_text(tiny_merged, tmp_path):
    source = tiny_merged / "f16.gguf"
    raw = bytearray(source.read_bytes())
    start, _ = read_header(source).spans["tokenizer.chat_template"]
    raw[start + 8 : start + 8 + len("tokenizer.chat_template")] = b"tokenizer.chat_templatX"
    bare = Path(tmp_path / "bare.gguf")
    bare.write_bytes(raw)
    checks, not_run = check_server(bare, None, CASES, CONFIG)
    assert not not_run
    assert not [check for check in checks if not check.passed]
    assert "greedy text" in {check.name for check in checks}
