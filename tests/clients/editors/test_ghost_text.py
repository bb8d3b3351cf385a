"""Ghost text in a real Neovim and a real Vim, typed into as a person would."""

import contextlib
import json
import os
import pty
import select
import shutil
import socket
import subprocess
import threading
import time

import pytest

WAIT_SECONDS = 15.0
VIM_GHOST = r"""[execute('redraw'), range(1, &lines - 2)
  ->filter({_, row -> screenstring(row, 1) !=# '~'})
  ->map({_, row -> range(1, &columns)
    ->map({_, at -> screenattr(row, at) ? screenstring(row, at) : ''})->join('')->trim(' ', 2)})
  ->filter({_, text -> text != ''})->join('|')][1]"""
"""What the screen shows in another colour than plain text; older Vims list no virtual text."""

NVIM_GHOST = """luaeval("(function()
  local found = {}
  local space = vim.api.nvim_get_namespaces().edgesmith
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, {details = true})) do
    table.insert(found, mark[4].virt_text[1][1])
    for _, line in ipairs(mark[4].virt_lines or {}) do table.insert(found, line[1][1]) end
  end
  return table.concat(found, '|')
end)()")"""


class Editor:
    """What both can do: `type` keys, `ask` for the value of an expression."""

    ghost_expression = ""

    def until(self, condition, what) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, what

    def ghost(self) -> str:
        return self.ask(self.ghost_expression)

    def until_ghost(self, text) -> None:
        self.until(lambda: self.ghost() == text, f"no ghost {text!r} but {self.ghost()!r}")

    def text(self) -> str:
        return self.ask('join(getline(1, "$"), "\\n")')

    def messages(self) -> str:
        return self.ask('execute("messages")').strip()

    def status(self) -> str:
        return self.ask('execute("EdgesmithStatus")').strip()


class Neovim(Editor):
    ghost_expression = " ".join(NVIM_GHOST.split())
    tab, escape, enter, dismiss = "<Tab>", "<Esc>", "<CR>", "<C-]>"

    def __init__(self, gaps_url, plugin, folder) -> None:
        self._address = str(folder / "nvim.sock")
        settings = f"let g:edgesmith = {{'url': '{gaps_url}', 'delay_ms': 5}}"
        self._process = subprocess.Popen(
            [
                *("nvim", "--clean", "--headless", "--listen", self._address),
                *("--cmd", settings, "-c", f"luafile {plugin / 'edgesmith.lua'}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"EDGESMITH_API_KEY": "sesame", "XDG_STATE_HOME": str(folder)},
        )

    def start(self) -> None:
        self.until(lambda: self.ask("exists('g:loaded_edgesmith')") == 1, "no plugin")

    def _remote(self, *words) -> str:
        done = subprocess.run(
            ["nvim", "--server", self._address, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
        return done.stdout + done.stderr  # Neovim 0.7 answers on its standard error

    def ask(self, expression):
        answer = self._remote("--remote-expr", f"json_encode({expression})")
        return json.loads(answer) if answer.startswith(('"', "0", "1")) else None

    def type(self, keys) -> None:
        self._remote("--remote-send", keys)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Vim(Editor):
    """Vim at a terminal of its own; it opens a channel to us for questions."""

    ghost_expression = " ".join(VIM_GHOST.split())
    tab, escape, enter, dismiss = "\t", "\x1b", "\r", "\x1d"

    def __init__(self, gaps_url, plugin, folder) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(WAIT_SECONDS)
        port = listener.getsockname()[1]
        self._listener = listener
        self._terminal, theirs = pty.openpty()
        settings = f"let g:edgesmith = {{'url': '{gaps_url}', 'delay_ms': 5}}"
        self._process = subprocess.Popen(
            [
                *("vim", "--clean", "-N", "-i", "NONE", "-n", "--cmd", settings),
                *("-c", f"source {plugin / 'edgesmith.vim'}"),
                *("-c", f"let g:channel = ch_open('127.0.0.1:{port}')"),
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"EDGESMITH_API_KEY": "sesame", "TERM": "xterm", "HOME": str(folder)},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._drain)
        self._reader.start()
        self._number = 0

    def start(self) -> None:
        self._channel, _ = self._listener.accept()
        self._channel.settimeout(WAIT_SECONDS)
        self.until(lambda: self.ask("exists('g:loaded_edgesmith')") == 1, "no plugin")

    def _drain(self) -> None:
        """Read the screen, or Vim would wait for us."""
        with contextlib.suppress(OSError):
            while select.select([self._terminal], [], [])[0] and os.read(self._terminal, 1 << 16):
                pass

    def ask(self, expression):
        self._number -= 1
        self._channel.sendall(json.dumps(["expr", expression, self._number]).encode())
        answer = b""
        while True:
            answer += self._channel.recv(1 << 16)
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(answer)[1]

    def type(self, keys) -> None:
        os.write(self._terminal, keys.encode())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._listener.close()
        self._channel.close()
        os.close(self._terminal)


@pytest.fixture(params=[Neovim, Vim], ids=["neovim", "vim"])
def editor(request, gaps, plugins, tmp_path):
    program = {Neovim: "nvim", Vim: "vim"}[request.param]
    for each in (program, "curl"):
        if shutil.which(each) is None:
            pytest.skip(f"there is no {each} here")
    editor = request.param(gaps.url, plugins, tmp_path)
    try:
        editor.start()
        yield editor
    finally:
        editor.close()


def test_ghost_text_appears_and_tab_takes_it(editor, gaps):
    gaps.content = "return a + b\n    # done\n"
    editor.type(f"idef add():{editor.enter}    ")
    editor.until_ghost("return a + b|    # done")
    assert editor.text() == "def add():\n    "
    editor.type(editor.tab)
    editor.until(lambda: editor.text() == "def add():\n    return a + b\n    # done", "not taken")
    body = gaps.bodies[-1]
    assert body["input_prefix"].endswith("\n")
    assert gaps.headers[-1]["Authorization"] == "Bearer sesame"
    assert editor.messages() == ""


def test_the_text_around_the_cursor_is_sent_and_the_rest_of_the_line_kept(editor, gaps):
    gaps.content = 'x"\\y'
    editor.type(f'iab"c\\d{editor.enter}end{editor.escape}ggfca')
    editor.type("Z")
    gaps.wait(lambda: any(body["prompt"] == 'ab"cZ' for body in gaps.bodies))
    body = next(body for body in gaps.bodies if body["prompt"] == 'ab"cZ')
    assert (body["input_prefix"], body["input_suffix"]) == ("", "\\d\nend\n")
    editor.until_ghost('x"\\y')
    editor.type(editor.tab)
    editor.until(lambda: editor.text() == 'ab"cZx"\\y\\d\nend', "not taken")


def test_typing_what_the_ghost_says_asks_nothing_again(editor, gaps):
    editor.type("ix = ")
    editor.until_ghost("a + b")
    num_asked = len(gaps.bodies)
    editor.type("a +")
    editor.until_ghost(" b")
    assert len(gaps.bodies) == num_asked
    editor.type("!")
    gaps.wait(lambda: len(gaps.bodies) > num_asked)


def test_a_stale_request_is_hung_up(editor, gaps):
    gaps.is_held = True
    editor.type("ia")
    gaps.wait(lambda: len(gaps.bodies) == 1)
    editor.type("b")
    gaps.wait(lambda: gaps.num_left == 1 and len(gaps.bodies) == 2)
    editor.type(editor.escape)
    gaps.wait(lambda: gaps.num_left == 2)
    assert editor.ghost() == ""


def test_keys_keep_their_meaning_while_there_is_no_ghost(editor, gaps):
    gaps.content = ""
    editor.type(f"ia{editor.tab}b")
    editor.until(lambda: editor.text() == "a\tb", "no tab")
    gaps.wait(lambda: gaps.bodies[-1:] and gaps.bodies[-1]["prompt"] == "a\tb")
    gaps.content = "ghost"
    editor.type("c")
    editor.until_ghost("ghost")
    editor.type(editor.dismiss)
    editor.until_ghost("")
    assert editor.text() == "a\tbc"


def test_errors_are_quiet_and_told_when_asked(editor, gaps):
    gaps.status = 500
    editor.type("ix")
    editor.until(lambda: "JSON" in editor.status() or "oops" in editor.status(), "no status")
    gaps.close()
    editor.type("y")
    editor.until(lambda: gaps.url in editor.status(), "no status")
    assert editor.text() == "xy"
    assert editor.ghost() == ""
    assert "rror" not in editor.messages()
