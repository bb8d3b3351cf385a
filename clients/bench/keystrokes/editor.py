"""Vim on a terminal of its own: keys go in, and its state can be asked for over a channel.

Knows no session and no server. For recording only; POSIX only, as Vim's pseudo-terminal is.
"""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 20.0

_VIMRC = """
set nocompatible noswapfile noautoindent viminfo= encoding=utf-8 shortmess=aoOtTWAIcCF
set noloadplugins
let g:llama_config = {{'endpoint_fim': '{endpoint}'}}
set runtimepath+={plugin}
autocmd VimEnter * silent call llama#init()
autocmd VimEnter * let g:driver = ch_open('127.0.0.1:{port}', {{'waittime': 5000}})
"""


class Editor:
    """One running Vim; a context manager that ends it."""

    def __init__(self, file: Path, plugin: Path, endpoint: str, folder: Path) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(START_SECONDS)
        vimrc = folder / "vimrc"
        port = listener.getsockname()[1]
        vimrc.write_text(_VIMRC.format(endpoint=endpoint, plugin=plugin, port=port))
        self._terminal, inside = pty.openpty()
        self._process = subprocess.Popen(
            ["vim", "-N", "-u", str(vimrc), "-n", file.name],
            cwd=file.parent,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(inside)
        threading.Thread(target=self._swallow, daemon=True).start()
        self._channel, _ = listener.accept()
        listener.close()
        self._answers = self._channel.makefile("rb")
        self._number = 0

    def _swallow(self) -> None:
        """Read what Vim paints; it stops when nobody does."""
        try:
            while os.read(self._terminal, 65536):
                pass
        except OSError:
            return

    def keys(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def ask(self, expression: str) -> Any:
        """Evaluate a Vim expression. Source: Vim's channel.txt, the "expr" command."""
        self._number -= 1
        message = json.dumps(["expr", expression, self._number])
        self._channel.sendall(message.encode() + b"\n")
        decoder, text = json.JSONDecoder(), ""
        while True:
            text += self._answers.readline().decode()
            number, value = decoder.decode(text)
            if number == self._number:
                return value
            text = ""

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End Vim."""
        self._process.terminate()
        self._process.wait()
        self._channel.close()
        os.close(self._terminal)
