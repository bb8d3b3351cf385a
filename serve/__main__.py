"""`python -m serve`: choose a model, take the port, load, serve, stop cleanly.

The only place that reads the environment and the command line. Exit code 2 and one line on stderr
mean that the user can mend it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve import config, keys, lora_flag, memory_flag, purge, tls, tune
from serve.errors import ServeError
from serve.listen import listen, url
from serve.start import opened

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from serve.api.served import House
    from serve.config import Settings

_EXAMPLES = """\
examples:
  python -m serve                                   the best file of the newest quantize run
  python -m serve --model model.gguf --port 8081
  python -m serve --model runs/quantize/20261123T003000Z-0123abcd --context-length 16384
  python -m serve --model base.gguf --lora style=style.gguf      chosen as model "style"
  python -m serve --models ~/models                 every GGUF there, loaded when asked for
  python -m serve --host 0.0.0.0 --api-key-file keys.txt
  python -m serve --set sampling.temperature=0 --set engine.slots=2
  python -m serve tune --model model.gguf           measure this machine, thoroughly
  python -m serve purge                             delete the prompts kept over restarts
"""

_FLAGS = {
    "model": "model.file",
    "models": "models.folder",
    "lora": "engine.adapters",
    "host": "server.host",
    "port": "server.port",
    "api_key_file": "access.api_key_file",
    "tls_cert": "access.tls_cert",
    "tls_key": "access.tls_key",
    "context_length": "engine.context_length",
    "slots": "engine.slots",
    "kv_type": "engine.kv_type",
    "memory": "engine.memory_bytes",
    "threads": "engine.threads",
    "n_gpu_layers": "engine.n_gpu_layers",
}
"""Each flag is a short name for a setting, and wins over the file and `--set`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["tune"]:
            return tune.main(words[1:])
        if words[:1] == ["purge"]:
            return purge.main(words[1:])
        args = _parser().parse_args(words)
        settings = _settings(args)
        api_keys = keys.api_keys(settings, os.environ)
        certificate = tls.certificate(settings.access)
        with _interruptible(), listen(settings.server.host, settings.server.port) as sock:
            _run(settings, api_keys, sock, certificate)
    except ServeError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description="Serve a GGUF to OpenAI and llama.cpp clients over HTTP.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="FILE|RUN", help="a GGUF or a quantize run (default: the newest run)")
    add("--models", metavar="FOLDER", help="serve every GGUF below it, loaded when asked for")
    add(
        "--lora",
        action="append",
        type=lora_flag.adapter,
        metavar="NAME=FILE[:SCALE]",
        help="a LoRA adapter that requests choose as their model; may be given again",
    )
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, help="port, 0 for a free one (default: 8080)")
    add("--config", type=Path, metavar="FILE", help="TOML file; see serve/config.py")
    add("--api-key-file", metavar="FILE", help=f"one key a line; also ${keys.ENVIRONMENT_KEY}")
    add("--tls-cert", metavar="FILE", help="PEM certificate chain; speaks HTTPS, with --tls-key")
    add("--tls-key", metavar="FILE", help="PEM key of the certificate, without a passphrase")
    add("--context-length", type=int, metavar="N", help="tokens one request may use")
    add("--slots", type=int, metavar="N", help="answers decoded side by side")
    add("--kv-type", choices=("f16", "q8_0", "q4_0"), help="KV cache type (default: f16)")
    add(
        "--memory",
        type=memory_flag.memory,
        metavar="SIZE",
        help="most memory to take, such as 4G (default: what a recommendation was for, or all)",
    )
    add("--threads", type=int, metavar="N", help="compute threads (default: physical cores)")
    add("--no-tune", action="store_true", help="measure nothing at a model's first start")
    add("--no-disk-cache", action="store_true", help="keep no prompts over restarts")
    add("--n-gpu-layers", type=int, metavar="N", help="layers on the GPU (default: all that can)")
    add("--set", action="append", default=[], metavar="A.B=V", help="override one setting")
    return parser


def _settings(args: argparse.Namespace) -> Settings:
    given = {setting: getattr(args, flag) for flag, setting in _FLAGS.items()}
    flags = [f"{setting}={_toml(value)}" for setting, value in given.items() if value is not None]
    untuned = ["engine.tune=false"] if args.no_tune else []
    unkept = ["engine.cache_disk_bytes=0"] if args.no_disk_cache else []
    return config.load(args.config, [*args.set, *flags, *untuned, *unkept])


def _toml(value: Any) -> str:
    """Spell a flag's value; a list holds tables that are spelled already."""
    return f"[{', '.join(value)}]" if isinstance(value, list) else json.dumps(value)


def _run(
    settings: Settings,
    api_keys: tuple[str, ...],
    sock: socket.socket,
    certificate: tls.Certificate | None,
) -> None:
    from serve.app import create_app_of
    from serve.server import Server

    with opened(settings, os.environ, _say) as house:
        server = Server(
            create_app_of(house, settings, api_keys),
            grace_seconds=settings.server.shutdown_grace_seconds,
            end_answers=house.residents.close,
            certificate=certificate,
        )
        print(_banner(house, settings, sock), file=sys.stderr, flush=True)
        server.run(sockets=[sock])


def _banner(house: House, settings: Settings, sock: socket.socket) -> str:
    address = f"listening on {url(sock, 'https' if settings.access.tls_cert else 'http')}"
    if settings.models.is_used:
        budget = f"{house.residents.budget_bytes / 1e9:.1f} GB"
        names = ", ".join(house.catalogue.names)
        return f"{address} (models {names}; loaded when asked for, {budget} together)"
    [resident] = house.residents.loaded()
    info = resident.value.engine.model_info
    return (
        f"{address} (model {resident.name}, context {info.context_length} tokens, "
        f"{info.n_slots} slots, {settings.engine.kv_type} KV cache, {info.threads} threads)"
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the engine is closed either way."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _refuse(error: ServeError) -> int:
    print(f"serve: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
