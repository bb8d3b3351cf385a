"""Files solve problems through the evaluator's command; what was answered is not asked again."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from quantize.config import MeasureConfig, PassAt1Config, load_config
from quantize.errors import ConfigError, EvaluatorError
from quantize.measure import pass_at_1
from quantize.measure.measurements import Book, Subject, read
from quantize.measure.measuring import measure
from quantize.progress import Steps

RIGHT, WRONG = (
    "```python\ndef f(x):\n    return x + {n}\n```",
    "```python\ndef f(x):\n    return 0\n```",
)


class Answers(BaseHTTPRequestHandler):
    """Solve every problem, or only those that the served file can."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": self.server.model}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.num_asked.append(self.server.model)
        asked = body["messages"][-1]["content"]
        number = next(n for n in range(1, 5) if f"adds {n}." in asked)
        can = number <= self.server.solves
        message = {"role": "assistant", "content": RIGHT.format(n=number) if can else WRONG}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer({"id": "a", "model": self.server.model, "choices": [choice]})

    def answer(self, content):
        raw = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def suite(tmp_path):
    rows = [
        {
            "task_id": f"own/{n}",
            "prompt": f'def f(x):\n    """Return what adds {n}."""\n',
            "canonical_solution": f"    return x + {n}\n",
            "test": f"def check(g):\n    assert g(1) == {n + 1}\n",
            "entry_point": "f",
        }
        for n in range(1, 5)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def serve():
    """Return a way to serve files, of which `good` solves four problems and others two."""
    asked = []

    @contextlib.contextmanager
    def served(path):
        http = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        http.daemon_threads = True
        http.model, http.num_asked = path.stem, asked
        http.solves = 4 if path.stem == "good" else 2
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield type("Served", (), {"base_url": f"http://127.0.0.1:{http.server_port}/v1"})
        finally:
            http.shutdown()
            http.server_close()
            thread.join()

    served.asked = asked
    return served


@pytest.fixture
def config(suite):
    chosen = PassAt1Config(suite=str(suite), num_problems=0)
    try:
        pass_at_1.require_usable(chosen)
    except EvaluatorError as error:
        if "sandbox" in str(error):
            pytest.skip(str(error))
        raise
    return chosen


def test_files_are_compared_by_problem_and_what_was_answered_is_kept(tmp_path, serve, config):
    subjects = [Subject(path=tmp_path / f"{name}.gguf", sha256=name) for name in ("good", "poor")]
    pass_at_1.measure(Book(tmp_path, {}), subjects, config, Steps(), serve=serve)
    first, second = (entry.figures["pass_at_1"] for entry in read(tmp_path))
    assert (first["pass_at_1"], first["num_problems"]) == (1.0, 4)
    assert (second["pass_at_1"], second["difference"]) == (0.5, -0.5)
    assert -1 <= second["low"] < -0.5 < second["high"] <= 0
    assert len(serve.asked) == 8
    assert pass_at_1.table(read(tmp_path))[-1].startswith("| poor.gguf | 4 | 50.0% | -50.0% (")

    pass_at_1.measure(Book(tmp_path, {}), subjects, config, Steps(), serve=serve)
    assert len(serve.asked) == 8
    (samples,) = tmp_path.glob("pass_at_1/*/poor.jsonl")
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:3]))
    samples.with_suffix(".results.jsonl").unlink()
    pass_at_1.measure(Book(tmp_path, {}), subjects, config, Steps(), serve=serve)
    assert serve.asked[8:] == ["poor"]
    assert read(tmp_path)[1].figures["pass_at_1"] == second


def test_a_suite_that_is_not_there_is_refused_before_anything_is_measured(tmp_path):
    asked = MeasureConfig(pass_at_1=PassAt1Config(suite="humanevil"))
    with pytest.raises(EvaluatorError, match="no suite 'humanevil'; known: humaneval"):
        measure(tmp_path, [], None, asked, Steps(), context=512)
    assert list(tmp_path.iterdir()) == []


def test_the_figures_of_files_do_not_depend_on_whether_problems_are_asked(tmp_path):
    from quantize.measure.measuring import _settings

    plain, asked = MeasureConfig(), MeasureConfig(pass_at_1=PassAt1Config(suite="mbpp"))
    assert _settings(plain, [], "0", 512) == _settings(asked, [], "0", 512)


def test_numbers_that_leave_nothing_to_solve_are_refused():
    with pytest.raises(ConfigError, match="num_problems"):
        load_config(None, ["measure.pass_at_1.num_problems=-1"])


@pytest.mark.weights
def test_the_real_server_and_evaluator_judge_the_words_of_that_very_file(
    tmp_path, suite, config, smollm2_gguf
):
    suite.write_text(suite.read_text().splitlines(keepends=True)[0])
    chosen = PassAt1Config(suite=str(suite), num_problems=0, max_tokens=24)
    subject = Subject(path=smollm2_gguf, sha256="0" * 64)
    served = []

    @contextlib.contextmanager
    def serve(path):
        with pass_at_1.served(512)(path) as server:
            served.append(server.ask("/v1/models")["data"][0]["id"])
            yield server

    pass_at_1.measure(Book(tmp_path, {}), [subject], chosen, Steps(), serve=serve)
    (samples,) = tmp_path.glob(f"pass_at_1/*/{smollm2_gguf.stem}.jsonl")
    (sample,) = map(json.loads, samples.read_text().splitlines())
    assert sample["model"] == served[0] == smollm2_gguf.stem
    assert sample["completion"]
    (entry,) = read(tmp_path)
    assert entry.figures["pass_at_1"]["num_problems"] == 1
    assert entry.figures["pass_at_1"]["pass_at_1"] in (0.0, 1.0)
