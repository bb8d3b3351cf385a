"""Record sessions: drive Vim with llama.vim against a server that notes what it is asked.

    python -m clients.bench.keystrokes.record --plugin DIR [--session NAME] [--out FOLDER]

For development. The server answers with the text that is to be written anyway, so that accepting
a completion leads where typing does. `--plugin` is a checkout of llama.vim.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec

from clients.bench.keystrokes import scripts, sessions
from clients.bench.keystrokes.editor import Editor
from clients.bench.keystrokes.scripts import SCRIPTS, Script
from clients.bench.keystrokes.sessions import Keystroke

ROOT = Path(__file__).resolve().parents[3]
ANSWER_SECONDS = 0.4
KEY_SECONDS = (0.1, 0.25)
LINE_SECONDS = (0.4, 1.2)
LOOK_SECONDS = 0.7  # how long one waits for a completion one hopes for
ACCEPT_SHARE = 0.3  # of the pauses at which a completion is accepted
_KNOWN_CHARS = 160  # before the cursor; enough to find the place in the file


class Oracle(ThreadingHTTPServer):
    """Notes every request and answers with one to three lines of the finished file."""

    daemon_threads = True

    def __init__(self, finished: str, draw: random.Random) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.finished = finished
        self.draw = draw
        self.began = time.monotonic()
        self.action = "open"
        self.keystrokes: list[Keystroke] = []

    def note(self, body: bytes) -> str:
        """Keep a request and return the answer's text."""
        asked = msgspec.json.decode(body)
        at = round(time.monotonic() - self.began, 2)
        for chunk in asked["input_extra"]:
            chunk.pop("time", None)
        self.keystrokes.append(Keystroke(at_seconds=at, action=self.action, body=asked))
        known = (asked["input_prefix"] + asked["prompt"])[-_KNOWN_CHARS:]
        at = self.finished.find(known)
        rest = self.finished[at + len(known) :] if known.strip() and at >= 0 else ""
        lines = rest.splitlines()[: self.draw.choice((1, 1, 2, 3))]
        return "\n".join(lines)


class _Handler(BaseHTTPRequestHandler):
    server: Oracle

    def do_POST(self) -> None:
        """Answer /infill."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        content = self.server.note(body)
        time.sleep(ANSWER_SECONDS)
        answer = msgspec.json.encode({"content": content})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Hand:
    """Does the steps of a script in an editor."""

    def __init__(self, editor: Editor, oracle: Oracle, draw: random.Random) -> None:
        self._editor = editor
        self._oracle = oracle
        self._draw = draw

    def do(self, step: scripts.Step) -> None:
        """Do one step."""
        self._oracle.action = step.kind
        if step.kind == "rest":
            time.sleep(step.seconds)
        elif step.kind == "keys":
            for key in step.keys:
                self._press(key)
            time.sleep(LOOK_SECONDS)
        else:
            self._fill(step)

    def _fill(self, step: scripts.Step) -> None:
        """Open a line above the gap and write, accepting completions now and then."""
        lines = self._oracle.finished.splitlines()[step.line - 1 : step.line - 1 + step.count]
        wanted = "\n".join(lines)
        anchor = self._oracle.finished.splitlines()[step.line - 2]
        self._find(anchor)
        self._press("o")
        time.sleep(LOOK_SECONDS)
        start = self._offset()
        while rest := wanted[self._offset() - start :]:
            if self._wants_it(rest):
                self._oracle.action = "accept"
                self._press("\t")
            else:
                self._oracle.action = "type"
                self._press("\r" if rest[0] == "\n" else rest[0])
        self._press("\x1b")

    def _find(self, line: str) -> None:
        escaped = line.replace("'", "''").replace("\\", "\\\\")
        self._editor.ask(f"search('\\V\\^{escaped}\\$', 'cw')")
        time.sleep(LOOK_SECONDS)

    def _wants_it(self, rest: str) -> bool:
        """Say whether to accept: at the beginning of a word, when what is offered is right."""
        if not rest[0].isalpha() or self._draw.random() > ACCEPT_SHARE / 4:
            return False
        time.sleep(LOOK_SECONDS)
        return bool(self._editor.ask("llama#is_fim_hint_shown()"))

    def _press(self, key: str) -> None:
        self._editor.keys(key)
        time.sleep(self._draw.uniform(*(LINE_SECONDS if key == "\r" else KEY_SECONDS)))

    def _offset(self) -> int:
        """Return how many bytes stand before the cursor."""
        return int(self._editor.ask("line2byte(line('.')) + col('.') - 2"))


def record(name: str, script: Script, plugin: Path) -> list[Keystroke]:
    """Play a script and return what the editor sent."""
    draw = random.Random(name)  # noqa: S311  # a hand's rhythm, not a secret
    finished = script.text(ROOT)
    oracle = Oracle(finished, draw)
    threading.Thread(target=oracle.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{name.replace('-', '_')}.py")
        file.write_text(with_gaps(finished, script))
        endpoint = f"http://127.0.0.1:{oracle.server_port}/infill"
        with Editor(file, plugin, endpoint, Path(folder)) as editor:
            hand = Hand(editor, oracle, draw)
            for step in script.steps:
                hand.do(step)
            left = editor.ask("join(getline(1, '$'), \"\\n\")")
    oracle.shutdown()
    oracle.server_close()
    missing = [line for line in finished.splitlines() if line not in left]
    print(f"{name}: {len(oracle.keystrokes)} requests, {len(missing)} lines missing at the end")
    return oracle.keystrokes


def with_gaps(finished: str, script: Script) -> str:
    """Return the file as the editor opens it: without the lines that are to be written."""
    lines: list[str | None] = [*finished.splitlines()]
    for step in script.steps:
        if step.kind == "fill":
            for number in range(step.line - 1, step.line - 1 + step.count):
                lines[number] = None
    return "\n".join(line for line in lines if line is not None) + "\n"


def main() -> None:
    """Record the sessions asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plugin", type=Path, required=True, help="a checkout of llama.vim")
    parser.add_argument("--session", choices=SCRIPTS, action="append")
    parser.add_argument("--out", type=Path, default=sessions.FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.session or SCRIPTS:
        keystrokes = record(name, SCRIPTS[name], args.plugin.resolve())
        sessions.save(args.out / f"{name}.jsonl.xz", keystrokes)


if __name__ == "__main__":
    main()
