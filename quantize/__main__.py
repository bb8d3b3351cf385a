"""Quantize, verify, measure and recommend from the command line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from quantize import run as runs
from quantize.config import QuantizeConfig, load_config
from quantize.errors import QuantizeError

_EXAMPLES = """\
examples:
  python -m quantize                                  the newest finetune run, five types
  python -m quantize --types f16,q8_0,q4_k_m
  python -m quantize --from models/MyModel-HF --set measure.scored_tokens=2048
  python -m quantize --from model.gguf --types q4_k_m
  python -m quantize --types f16 --target-size 700M   the best file of that size
  python -m quantize verify runs/quantize/RUN
  python -m quantize measure runs/quantize/RUN --text wiki.test.raw
  python -m quantize measure runs/quantize/RUN --pass-at-1 humaneval --data DIR --problems 40
  python -m quantize adapter --from runs/finetune/RUN --out adapter.gguf
  python -m quantize recommend runs/quantize/RUN --ram 4G --context 8192 --min-tok-s 10

The run directory is printed on stdout. An interrupted command, given again, resumes.
"""
_FLAGS = {
    "full": "measure.full",
    "text": "measure.text",
    "imatrix": "imatrix.source",
    "target_size": "budget.target_size",
    "target_bpw": "budget.target_bpw",
    "pass_at_1": "measure.pass_at_1.suite",
    "problems": "measure.pass_at_1.num_problems",
    "data": "measure.pass_at_1.data",
    "ram": "recommend.ram",
    "context": "recommend.context",
    "min_tok_s": "recommend.min_tok_s",
}
"""Flags that stand for a configuration key."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.handler(options)
    except QuantizeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}; nothing unfinished will be used", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    return status


def _quantize(options: argparse.Namespace) -> int:
    from quantize.pipeline import Options, execute
    from quantize.plan import plan

    config = _config(options)
    home, reason = runs.home()
    runs.say(f"runs: {home / 'runs'} ({reason})")
    work = plan(options.source, config, force=options.force)
    if options.dry_run:
        runs.say(f"types: {', '.join(entry.name for entry in work.types)}")
        runs.say(f"configuration {work.config_hash[:8]}; nothing was written")
        print(work.existing or work.unfinished or "new run")
        return 0
    wanted = Options(measure=not options.no_measure, verify=not options.no_verify)
    print(execute(work, wanted))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from quantize.pipeline import verify_run

    checked = verify_run(options.run, _config(options))
    for check in checked.checks:
        mark = "ok  " if check.passed else "FAIL"
        print(f"{mark} {check.hop}: {check.name}: {check.detail}")
    for absent in checked.not_run:
        print(f"none {absent.hop}: not checked: {absent.reason}")
    checked.require()
    return 0


def _measure(options: argparse.Namespace) -> int:
    from quantize.assess import measure_run
    from quantize.measure.measurements import FILE

    measure_run(options.run, _config(options))
    print(options.run / FILE)
    return 0


def _recommend(options: argparse.Namespace) -> int:
    from quantize.assess import recommend_run

    chosen = recommend_run(options.run, _config(options).recommend)
    if chosen.file is None:
        return 1
    print(options.run / chosen.file)
    return 0


def _adapter(options: argparse.Namespace) -> int:
    if options.compare is not None:
        from quantize.assess import recommend_run
        from quantize.pipeline import adapter_run
        from quantize.report.adapter_compare import rows_of

        print(adapter_run(options.compare))
        for line in rows_of(options.compare):
            runs.say(line)
        recommend_run(options.compare, _config(options).recommend)
        return 0
    from quantize.convert.lora_gguf import export_adapter

    print(export_adapter(options.source, options.out))
    return 0


def _types(_options: argparse.Namespace) -> int:
    from quantize.llama.quant_types import aliases, table

    for entry in table().values():
        needs = ", needs an importance matrix" if entry.needs_imatrix else ""
        blocks = f"rows of {entry.block_length}n" if entry.block_length > 1 else "any rows"
        print(f"{entry.name:10} {entry.description}; {blocks}{needs}")
    for short, name in aliases().items():
        print(f"{short:10} means {name}")
    return 0


def _config(options: argparse.Namespace) -> QuantizeConfig:
    overrides = list(options.set)
    for flag, key in _FLAGS.items():
        if (value := getattr(options, flag, None)) is not None:
            overrides.append(f"{key}={json.dumps(value)}")
    return load_config(options.config, overrides, getattr(options, "types", None))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quantize",
        description="Turn a fine-tuned model into measured and verified GGUF files.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_config(parser)
    _add_quantize(parser)
    commands = parser.add_subparsers(title="other commands", metavar="COMMAND")
    verify = commands.add_parser("verify", help="check that no hop changed the model's behaviour")
    measure = commands.add_parser("measure", help="measure a run's files on this machine")
    recommend = commands.add_parser("recommend", help="choose the file to serve by default")
    for command, handler in ((verify, _verify), (measure, _measure), (recommend, _recommend)):
        command.add_argument("run", type=Path, metavar="RUN", help="a quantize run directory")
        _add_config(command)
        command.set_defaults(handler=handler)
    recommend.add_argument(
        "--ram", metavar="SIZE", help="memory for the server, such as 4G (default: 3/4 of it)"
    )
    recommend.add_argument(
        "--context", type=_positive, metavar="N", help="context in tokens (default: the server's)"
    )
    recommend.add_argument(
        "--min-tok-s", type=float, metavar="X", help="tokens per second a file has to decode"
    )
    measure.add_argument(
        "--full",
        action="store_true",
        default=None,
        help="all examples, the whole text, KV cache types on every file, five rounds",
    )
    measure.add_argument(
        "--text", metavar="FILE", help="a text to score as well, such as WikiText-2"
    )
    measure.add_argument(
        "--pass-at-1",
        metavar="humaneval|mbpp|FILE",
        help="have the files solve programming problems, and compare them with the first file",
    )
    measure.add_argument(
        "--problems", type=int, metavar="N", help="only the first N; 0: all (default: 40)"
    )
    measure.add_argument("--data", metavar="DIR", help="folder of the suites' published files")
    adapter = commands.add_parser("adapter", help="write a finetune run's adapter as GGUF")
    adapter.add_argument("--from", dest="source", metavar="RUN", help="default: the newest run")
    adapter.add_argument("--out", type=Path, metavar="FILE", help="default: adapter.gguf here")
    adapter.add_argument(
        "--compare",
        type=Path,
        metavar="RUN",
        help="instead: a quantize run; adapter beside the base against merged, type by type",
    )
    _add_config(adapter)
    adapter.set_defaults(handler=_adapter, out=Path("adapter.gguf"))
    types = commands.add_parser("types", help="list the quant types llama.cpp can write")
    types.set_defaults(handler=_types)
    parser.set_defaults(handler=_quantize)
    return parser


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="a finetune run, a Hugging Face folder or a GGUF; default: the newest finetune run",
    )
    parser.add_argument(
        "--types", metavar="LIST", help="comma-separated quant types; `types` lists them"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--target-size",
        metavar="SIZE",
        help="also make the best file of at most this size, such as 700M, a type for each tensor",
    )
    budget.add_argument(
        "--target-bpw", type=float, metavar="BITS", help="the same as bits per weight"
    )
    parser.add_argument(
        "--imatrix",
        metavar="own|none|FILE",
        help="importance matrix: collected on the run's training examples (default), or a GGUF one",
    )
    parser.add_argument("--force", action="store_true", help="make a new run even if one is there")
    parser.add_argument("--no-measure", action="store_true", help="make the files only")
    parser.add_argument(
        "--no-verify", action="store_true", help="accept the files without the parity gate"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML configuration")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=V",
        help="override one key, such as measure.scored_tokens=2048; may be repeated",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
