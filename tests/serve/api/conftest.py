"""A scripted engine behind the real application, on a real socket."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn

from serve.app import create_app, create_app_of
from serve.catalogue import Catalogue
from serve.config import EngineSettings, ModelsSettings, Settings
from serve.engine.compute import ComputeThread
from serve.engine.errors import EngineError, InvalidConstraintError, PromptTooLongError
from serve.engine.model_info import ModelInfo
from serve.engine.prefix import common_prefix_length
from serve.engine.request import (
    Constraint,
    Finished,
    FinishReason,
    GenerationRequest,
    Progress,
    TextDelta,
    Timings,
    TokenLogprob,
    TopLogprob,
)
from serve.engine.stats import EngineStats, SlotStats, Spread
from serve.house import of_catalogue

SPECIALS = {"<s>": 256, "<pre>": 257, "<suf>": 258, "<mid>": 259, "<rep>": 260, "<sep>": 261}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'clown' %}"
    "{{ raise_exception('no clowns') }}{% endif %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclass
class Script:
    """What the next answers are: pieces of text, and how they end."""

    pieces: list[str] = field(default_factory=lambda: ["Hel", "lo"])
    reason: FinishReason = FinishReason.STOP
    stop_text: str | None = None
    error: str | None = None
    hang: bool = False
    read: tuple[int, ...] = ()  # how many tokens of the prompt, told before the first piece
    is_numbered: bool = False  # each answer ends with its number, the higher the more probable
    refuse: EngineError | None = None
    unfollowable: str | None = None
    unfollowable_word: str = ""


class FakeGeneration:
    def __init__(self, engine, request, script):
        self.engine, self.request, self.script = engine, request, script
        self.cancelled = asyncio.Event()
        number = [str(len(engine.requests) - 1)] * script.is_numbered
        self.pieces = [*script.pieces, *number]
        self.num_pieces = len(self.pieces)
        self.told = list(script.read) if request.reports_progress else []
        self.is_over = False
        self.is_scored = False
        self.loop = asyncio.get_running_loop()

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.is_over:
            raise StopAsyncIteration
        if self.told:
            return TextDelta("", (), progress=self.progress(self.told.pop(0)))
        if self.pieces and not self.cancelled.is_set():
            return self.delta(self.pieces.pop(0))
        if self.script.hang:
            await self.cancelled.wait()
        return self.finish()

    def delta(self, text):
        count = self.request.sampling.logprobs
        marks = () if count is None else (logprob(text, count),)
        return TextDelta(
            text=text,
            token_ids=tuple(text.encode()),
            logprobs=marks,
            prompt_logprobs=self.prompt_marks(),
            progress=self.progress(7) if self.request.reports_progress else None,
        )

    def progress(self, num_read):
        return Progress(
            num_prompt_tokens=len(self.request.prompt_token_ids),
            num_cached_tokens=1,
            num_read_tokens=num_read,
            num_completion_tokens=self.num_pieces - len(self.pieces),
            timings=Timings(
                queue_seconds=0.0, prompt_seconds=num_read / 10, predicted_seconds=0.25
            ),
        )

    def prompt_marks(self):
        """Score the prompt once: the token at place i gets -i."""
        count = self.request.prompt_logprobs
        if count is None or self.is_scored:
            return ()
        self.is_scored = True
        return tuple(
            TokenLogprob(
                token_id=token_id,
                text=self.engine.token_bytes(token_id),
                logprob=float(-place),
                top=tuple(TopLogprob(i, b"x", -1.0 - i) for i in range(count)),
            )
            for place, token_id in enumerate(self.request.prompt_token_ids)
            if place
        )

    def finish(self):
        self.is_over = True
        self.engine.leave(self)
        cancelled = self.cancelled.is_set()
        return Finished(
            reason=FinishReason.CANCELLED if cancelled else self.script.reason,
            num_prompt_tokens=len(self.request.prompt_token_ids),
            num_cached_tokens=1,
            num_completion_tokens=self.num_pieces - len(self.pieces),
            timings=Timings(queue_seconds=0.0, prompt_seconds=0.5, predicted_seconds=0.25),
            stop_text=self.script.stop_text,
            error=self.script.error,
            **self.drafted(),
        )

    def drafted(self):
        num_tokens = len(self.request.prediction_token_ids)
        return (
            {
                "num_predicted_tokens": num_tokens - 1,
                "num_unpredicted_tokens": 1,
                "num_draft_tokens": 5,
                "num_accepted_tokens": 2,
            }
            if num_tokens
            else {}
        )

    def cancel(self):
        self.cancelled.set()
        self.engine.leave(self)

    def cancel_from_outside(self):
        self.loop.call_soon_threadsafe(self.cancel)


def logprob(text, count):
    top = tuple(TopLogprob(token_id=i, text=b"x", logprob=-1.0 - i) for i in range(count))
    value = -1 / (2 + int(text)) if text.isdigit() else -0.5
    return TokenLogprob(token_id=1, text=text.encode(), logprob=value, top=top)


class FakeEngine:
    """Tokens are bytes, but for the special ones; `running` is what has not ended."""

    def __init__(self, info: ModelInfo) -> None:
        self.model_info = info
        self.script = Script()
        self.requests: list[GenerationRequest] = []
        self.prepared: list[Constraint] = []
        self.seconds_per_prompt_row: float | None = None
        self.looked_up: set[tuple] = set()  # adapters that known prefixes were asked for with
        self.running: set[FakeGeneration] = set()
        self.changed = threading.Condition()

    def tokenize(self, text, *, add_special, parse_special):
        pattern = "|".join(map(re.escape, SPECIALS)) if parse_special else "(?!)"
        ids = [256] if add_special and self.model_info.add_bos else []
        for part in re.split(f"({pattern})", text):
            special = parse_special and part in SPECIALS
            ids += [SPECIALS[part]] if special else list(part.encode())
        return ids

    def detokenize(self, token_ids, *, special=True):
        return b"".join(map(self.token_bytes, token_ids)).decode(errors="replace")

    def token_bytes(self, token_id):
        names = {number: name.encode() for name, number in SPECIALS.items()}
        return names.get(token_id) or bytes([token_id])

    def prepare(self, constraint):
        wrong = self.script.unfollowable_word
        if self.script.unfollowable is not None and wrong in constraint.source:
            raise InvalidConstraintError(self.script.unfollowable)
        self.prepared.append(constraint)

    def submit(self, request):
        if self.script.refuse is not None:
            raise self.script.refuse
        length = self.model_info.context_length
        if len(request.prompt_token_ids) >= length:
            raise PromptTooLongError(len(request.prompt_token_ids), length)
        self.requests.append(request)
        generation = FakeGeneration(self, request, self.script)
        with self.changed:
            self.running.add(generation)
            self.changed.notify_all()
        return generation

    def wait_for_requests(self, number, seconds=10.0):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= number, seconds)

    def leave(self, generation):
        with self.changed:
            self.running.discard(generation)
            self.changed.notify_all()

    def wait_for_running(self, number, seconds=10.0):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.running) == number, seconds)

    def num_ready(self, token_ids, *, scope="", adapters=()):
        self.looked_up.add(adapters)
        asked = [request.prompt_token_ids for request in self.requests]
        return max((common_prefix_length(each, token_ids) for each in asked), default=0)

    def stats(self):
        slot = SlotStats(seq_id=0, state="decode", num_held_tokens=5, num_prompt_tokens=3)
        zeros = dict.fromkeys(EngineStats.__struct_fields__, 0)
        return EngineStats(
            **zeros
            | {"slots": (slot,), "requests_finished": {"stop": 2}, "prompt_tokens": 7}
            | {"distributions": Spread().snapshot()}
            | {"seconds_per_prompt_row": self.seconds_per_prompt_row}
        )


@dataclass
class Live:
    """A running server."""

    engine: FakeEngine
    port: int
    http: httpx.Client

    def connect(self, body: str, path: str) -> socket.socket:
        """Send a request by hand, so that the test may close the socket when it likes."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        fields = f"Host: localhost\r\nContent-Length: {len(body.encode())}"
        head = f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n"
        sock.sendall(head.encode() + body.encode())
        return sock


def make_info(**changes) -> ModelInfo:
    known = {
        "path": "/models/tiny-q4_0.gguf",
        "name": "tiny",
        "architecture": "llama",
        "description": "tiny llama",
        "file_type": 2,
        "context_length": 2000,
        "chat_template": TEMPLATE,
        "metadata": {"tokenizer.chat_template": TEMPLATE, "general.name": "tiny"},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "bos_token_id": 256,
        "eog_token_ids": frozenset({2}),
        "n_vocab": 262,
        "n_params": 1_000_000,
        "size_bytes": 900,
        "n_slots": 2,
        "kv_type": "f16",
        "eot_token": "",
        "system_info": "",
        "runtime": "fake",
        "add_bos": True,
    }
    for name, text in (("pre", "<pre>"), ("suf", "<suf>"), ("mid", "<mid>")):
        known[f"fim_{name}_token_id"] = SPECIALS[text]
    for name, text in (("rep", "<rep>"), ("sep", "<sep>")):
        known[f"fim_{name}_token_id"] = SPECIALS[text]
    missing = dict.fromkeys(ModelInfo.__struct_fields__)
    return ModelInfo(**missing | {"n_embd": 4, "n_ctx_train": 4096} | known | changes)


@pytest.fixture(scope="session")
def ending() -> Iterator[list[tuple[threading.Thread, socket.socket]]]:
    """Wait behind the last test for servers that were told to stop: each takes a fifth of a second,
    which no test has to spend."""
    told: list[tuple[threading.Thread, socket.socket]] = []
    yield told
    for thread, sock in told:
        thread.join(10)
        sock.close()
        assert not thread.is_alive()


@pytest.fixture
def serving(ending) -> Iterator[Callable[..., Live]]:
    """Start servers and tell them to stop when the test is over."""
    stops = []

    def start(settings: Settings | None = None, api_keys=(), **info) -> Live:
        engine = FakeEngine(make_info(**info))
        app = create_app(engine, settings or Settings(), api_keys)
        config = uvicorn.Config(
            app, port=0, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        sock = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        port = sock.getsockname()[1]
        http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        stops.append((server, thread, http, sock))
        return Live(engine=engine, port=port, http=http)

    yield start
    for server, thread, http, sock in stops:
        http.close()
        server.should_exit = True
        ending.append((thread, sock))


@pytest.fixture
def live(serving) -> Live:
    return serving()


class FolderServer:
    """The models of a folder behind a real server, loaded when they are asked for."""

    engine = EngineSettings(context_length=256, slots=1, fim_slots=0, cache_memory_bytes=0)

    def __init__(self, folder, budget_bytes):
        models = ModelsSettings(folder=str(folder), budget_bytes=budget_bytes)
        settings = Settings(models=models, engine=self.engine)
        self.compute = ComputeThread()
        self.house = of_catalogue(Catalogue(settings, None), settings, self.compute, None)
        app = create_app_of(self.house, settings)
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.sock]})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def post(self, path, **body):
        return self.http.post(path, json=body)

    def close(self):
        self.http.close()
        self.server.should_exit = True
        self.thread.join(20)
        self.house.residents.close()
        self.compute.close()
        self.sock.close()


@pytest.fixture(scope="module")
def serve_folder() -> Iterator[Callable[..., FolderServer]]:
    """Start servers of folders and stop them behind the last test of a file."""
    servers: list[FolderServer] = []

    def start(folder, budget_bytes: int) -> FolderServer:
        servers.append(FolderServer(folder, budget_bytes))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def folder_engine() -> EngineSettings:
    """Return how each model of a folder is loaded."""
    return FolderServer.engine


@pytest.fixture(scope="session")
def scripted_engine() -> Callable[..., FakeEngine]:
    """Make an engine for an application that has no socket."""
    return lambda **info: FakeEngine(make_info(**info))
