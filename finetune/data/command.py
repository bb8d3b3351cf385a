"""`python -m finetune data [CONFIG]`: look at the data before a token is trained.

Prints the report and three examples with their loss mask on stdout, and writes report.md and
report.json. Knows no model weights, only the base's tokenizer.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from finetune.config import Config
from finetune.data.gate import pass_gate
from finetune.data.prepare import prepare
from finetune.data.show import masked_examples, report_json, report_page
from finetune.data.sources import load_dataset


def build_parser() -> argparse.ArgumentParser:
    """Describe `python -m finetune data`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data",
        description="Check a configuration's data as a fine-tune would: formats, repeats, "
        "benchmark problems, secrets, licences, lengths; show what carries loss. "
        "Nothing is trained.",
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("data-report"),
        metavar="DIR",
        help="default: %(default)s",
    )
    return parser


def show_data(config: Config, output: Path) -> None:
    """Print and write the report of a configuration's data.

    Raises:
        DataError: the data would be refused by a fine-tune as well.
    """
    from rich.console import Console

    from finetune import base_model, libraries
    from finetune.template import choose_template

    libraries.import_transformers()
    source = base_model.identify(config.base_model.ref)
    base = base_model.make_loadable(source, config.base_model)
    tokenizer = libraries.load_tokenizer(str(base.weights))
    choose_template(tokenizer, config.template)
    dataset, gate = pass_gate(load_dataset(config.data, seed=config.train.seed), config.data)
    prepared = prepare(dataset, tokenizer, config)
    page = report_page(dataset, gate, prepared)
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.md").write_text(page, encoding="utf-8")
    figures = report_json(dataset, gate, prepared)
    content = msgspec.json.format(msgspec.json.encode(figures), indent=2)
    (output / "report.json").write_bytes(content)
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    console.print(page, markup=False)
    framed = console.color_system is None
    how = "stands between ⟦ and ⟧" if framed else "is green"
    console.print(f"What carries loss {how}; the rest is context.\n", style="bold")
    for text in masked_examples(prepared.train.encoded, tokenizer, framed=framed):
        console.print(text)
        console.rule()
    print(f"written: {output / 'report.md'}, {output / 'report.json'}", file=sys.stderr)
