"""`python -m finetune evaluate RUN`: what a fine-tune gained.

    problems -> answers before and after (base.jsonl, tuned.jsonl) -> scores -> one table

Generating and scoring are separate: each is done only where it can be, and goes on where it was
cut short. Knows the order of these steps.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune import libraries
from finetune.errors import EvaluationError
from finetune.evaluate import generate, outcome, samples, scoring
from finetune.evaluate.figures import figures_of, reference_parse_rate
from finetune.evaluate.outcome import Evaluation, Shown
from finetune.evaluate.prompts import Prompt, end_ids, make_prompt
from finetune.evaluate.samples import Sample
from finetune.evaluate.suites import HELDOUT, SUITES, Problem, drawn, load_suite, suite_file
from finetune.run import read_manifest, utc_now

SIDES: tuple[generate.Side, ...] = ("base", "tuned")
MAX_TOKENS = {"fim": 96, "chat": 512, "completion": 512}
NUM_SHOWN = 3


def build_parser() -> argparse.ArgumentParser:
    """Describe `python -m finetune evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune evaluate",
        description="Let the base and the fine-tuned model answer the same questions, greedily; "
        "print how many answers are right, parse as Python and end by themselves.",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a finished fine-tune")
    add(
        "--suite",
        default=HELDOUT,
        metavar="NAME|FILE",
        help=f"{HELDOUT} (the run's own, default), {', '.join(SUITES)}, or a file of their fields",
    )
    add("--data", type=Path, metavar="DIR", help="folder that holds the suites' published files")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    some.add_argument(
        "--sample", type=int, metavar="N", help="only N problems, always the same, from all over"
    )
    add("--mode", choices=("chat", "completion", "fim"), help="default: by the kind of problem")
    add("--max-tokens", type=int, metavar="N", help="of an answer; default: 512, 96 for a gap")
    add("--batch-size", type=int, metavar="N", help="answers at once; default: 4, 64 on a GPU")
    add("--generate-only", action="store_true", help="run no answer; score them elsewhere")
    add(
        "--scores",
        type=Path,
        metavar="FILE",
        help="what `python -m clients evaluate --compare` printed elsewhere",
    )
    add("--output", type=Path, metavar="DIR", help="default: runs/evaluations/RUN/SUITE")
    add("--json", action="store_true", help="print evaluation.json instead of a table")
    return parser


def evaluate(arguments: Sequence[str]) -> str:
    """Generate what is missing, score what can be scored, return the table."""
    options = build_parser().parse_args(arguments)
    for name in ("limit", "sample", "max_tokens", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise EvaluationError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more")
    run = options.run.expanduser().resolve()
    manifest = read_manifest(run)
    problems = load_suite(options.suite, options.data, run)[: options.limit]
    if options.sample:
        problems = drawn(problems, options.sample)
    folder = options.output or outcome.folder_of(run, options.suite)
    folder.mkdir(parents=True, exist_ok=True)
    answered = _generate(options, run, manifest, problems, folder)
    evaluation = _measure(options, manifest, problems, answered, _scores(options, folder))
    path = outcome.write(evaluation, folder)
    shown = path.read_text(encoding="utf-8") if options.json else outcome.page(evaluation)
    print(f"written: {path}", file=sys.stderr)
    return shown.rstrip("\n")


def _generate(
    options: argparse.Namespace,
    run: Path,
    manifest: dict[str, Any],
    problems: Sequence[Problem],
    folder: Path,
) -> dict[str, list[Sample]]:
    """Return both sides' answers; weights are loaded only when one is missing."""
    libraries.import_transformers()
    tokenizer = libraries.load_tokenizer(str(run / "tokenizer"))
    prompts = {item.task_id: make_prompt(item, tokenizer, options.mode) for item in problems}
    settings = f"run={manifest['run_id']} mode={options.mode} max_tokens={options.max_tokens}"
    found = {side: samples.read(folder / f"{side}.jsonl", settings) for side in SIDES}
    missing = {side: _missing(prompts, found[side]) for side in SIDES}
    if any(missing.values()):
        model = generate.load(run, manifest, tokenizer)
        for side in SIDES:
            show = generate.report_progress(side, len(prompts))
            for made in _answers(options, model, tokenizer, missing[side], side):
                new = [_sample(item, prompts, manifest, side, settings) for item in made]
                samples.append(folder / f"{side}.jsonl", new)
                found[side] += new
                show(sum(item.task_id in prompts for item in found[side]))
    return {side: [item for item in found[side] if item.task_id in prompts] for side in SIDES}


def _missing(prompts: dict[str, Prompt], found: Sequence[Sample]) -> list[Prompt]:
    done = {item.task_id for item in found}
    return [prompt for task_id, prompt in prompts.items() if task_id not in done]


def _answers(
    options: argparse.Namespace,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    side: generate.Side,
) -> Any:
    """Yield batches of one mode each, since the length of an answer goes by mode."""
    default = 4 if libraries.gpu_name() is None else 64
    for mode, limit in MAX_TOKENS.items():
        yield from generate.answers(
            model,
            tokenizer,
            [prompt for prompt in prompts if prompt.mode == mode],
            end_ids(tokenizer),
            side=side,
            max_tokens=options.max_tokens or limit,
            batch_size=options.batch_size or default,
        )


def _sample(
    answer: generate.Answer,
    prompts: dict[str, Prompt],
    manifest: dict[str, Any],
    side: generate.Side,
    settings: str,
) -> Sample:
    model = manifest["base_model"]["ref"] if side == "base" else manifest["run_id"]
    return Sample(
        task_id=answer.task_id,
        completion=answer.text,
        mode=prompts[answer.task_id].mode,
        finish_reason=answer.finish_reason,
        model=model,
        settings=settings,
    )


def _scores(options: argparse.Namespace, folder: Path) -> scoring.PassRates | None:
    """Return pass@1 as given, or as the evaluator finds it; held-out examples have no tests."""
    if options.scores:
        return scoring.read_scores(options.scores)
    if options.suite == HELDOUT:
        return None
    file = suite_file(options.suite, options.data).resolve()
    suite = options.suite if options.suite in SUITES else str(file)
    data = file.parent if options.suite in SUITES else None
    pair = (folder.resolve() / "base.jsonl", folder.resolve() / "tuned.jsonl")
    if scoring.evaluator_is_installed() and not options.generate_only:
        return scoring.score(suite, data, *pair)
    print("not scored here; where the clients are installed, run", file=sys.stderr)
    for arguments in scoring.commands(suite, data, *pair):
        print(f"  python -m clients {' '.join(arguments)}", file=sys.stderr)
    print("and give what the last one prints back with --scores FILE", file=sys.stderr)
    return None


def _measure(
    options: argparse.Namespace,
    manifest: dict[str, Any],
    problems: Sequence[Problem],
    answered: dict[str, list[Sample]],
    rates: scoring.PassRates | None,
) -> Evaluation:
    base, tuned = (figures_of(problems, answered[side]) for side in SIDES)
    return Evaluation(
        run_id=manifest["run_id"],
        suite=options.suite if options.suite in {HELDOUT, *SUITES} else Path(options.suite).name,
        created_at=utc_now(),
        settings=answered["tuned"][0].settings or "",
        device=libraries.gpu_name() or "CPU",
        base=base,
        tuned=tuned,
        reference_parse_rate=reference_parse_rate(problems),
        pass_at_1=rates,
        shown=tuple(_shown(item, answered) for item in problems[:NUM_SHOWN]),
    )


def _shown(problem: Problem, answered: dict[str, list[Sample]]) -> Shown:
    texts = {
        side: next(item.completion for item in answered[side] if item.task_id == problem.task_id)
        for side in SIDES
    }
    question = problem.messages[-1]["content"] if problem.messages else problem.prompt
    return Shown(question=question, reference=problem.solution, **texts)
