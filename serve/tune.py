"""`python -m serve tune`: measure a model on this machine thoroughly, keep and show the figures.

Starts no server. A server started later finds the figures and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve import artifacts, config
from serve.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.config import EngineSettings
    from serve.engine.engine import EngineConfig
    from serve.engine.tuning import Tuning


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code. Raises: ServeError."""
    args = _parser().parse_args(arguments)
    settings = config.load(args.config, args.set)
    choice = artifacts.choose(args.model or settings.model.file, os.environ)
    print(f"model: {choice.path} ({choice.reason})", file=sys.stderr)
    engine_config = with_folder(settings.engine, choice.path)
    tuning = _measured(engine_config)
    if args.json:
        document = msgspec.to_builtins(tuning, str_keys=True)
        document |= {"best_chunk": tuning.best_chunk, "model": str(choice.path)}
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print("\n".join(_lines(tuning)))
    return 0


def with_folder(settings: EngineSettings, model: Path) -> EngineConfig:
    """Return the engine's configuration for a model, with the place where figures are kept."""
    import platformdirs

    folder = settings.tuning_folder
    if folder is None and settings.tune:
        folder = str(Path(platformdirs.user_cache_dir("edgesmith")) / "tuning")
    return msgspec.structs.replace(settings, model=str(model), tuning_folder=folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve tune",
        description="Measure threads and what rows cost for a model on this machine. The server "
        "does so quickly at a model's first start; this takes longer and replaces those figures.",
    )
    add = parser.add_argument
    add("--model", metavar="FILE|RUN", help="a GGUF or a quantize run (default: the newest run)")
    add("--config", type=Path, metavar="FILE", help="the server's TOML file")
    add("--set", action="append", default=[], metavar="A.B=V", help="override one setting")
    add("--json", action="store_true", help="write the figures as JSON")
    return parser


def _measured(engine_config: EngineConfig) -> Tuning:
    from serve.engine.errors import EngineError
    from serve.engine.model import Model
    from serve.engine.tuning import THOROUGH
    from serve.engine.wake import tune

    try:
        model = Model.load(engine_config)
        try:
            return tune(model, engine_config, note=_say, effort=THOROUGH)
        finally:
            model.close()
    except EngineError as error:
        raise ServeError(str(error)) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _lines(tuning: Tuning) -> list[str]:
    lines = [f"threads: {tuning.threads} for one row, {tuning.threads_batch} for several"]
    lines += [
        f"  {threads:3} threads: one row {row * 1e3:8.1f} ms, 32 prompt rows {chunk * 1e3:8.1f} ms"
        for threads, (row, chunk) in sorted(tuning.tried.items())
    ]
    lines.append("rows of one call, with logits")
    lines += [f"  {count:4}: {took * 1e3:8.1f} ms" for count, took in tuning.row_seconds.items()]
    lines.append(f"prompt rows of one call; the best chunk is {tuning.best_chunk}")
    lines += [
        f"  {count:4}: {took * 1e3:8.1f} ms, {count / took:8.1f} tok/s"
        for count, took in tuning.chunk_seconds.items()
    ]
    return lines
