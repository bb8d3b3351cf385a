"""What each way of laying out FIM prompts would read, computed from recorded editing sessions.

    python -m serve.reading_costs --model GGUF SESSION.jsonl.xz ...

For development: only the vocabulary is loaded, nothing is computed, so a change of strategy is
judged in seconds. Reads the sessions that `clients.bench.keystrokes` records.
"""

from __future__ import annotations

import argparse
import lzma
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, quantiles
from typing import TYPE_CHECKING, Any

import msgspec

from serve.chat.anchors import Gap, Lack, Liberties
from serve.chat.fim import ExtraFile, FimTokens, Tokenize, lay_out
from serve.chat.fim_plan import FimPlanner
from serve.engine.errors import ModelLoadError
from serve.engine.native import library
from serve.engine.prefix import common_prefix_length
from serve.engine.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTEXT_TOKENS = 8192
KEPT_TOKENS = 20_000  # the cells and 512 MiB of a 1.5B model, about
TOKENS_PER_SECOND = 50.0  # prompt tokens of a 1.5B model on two cores
DECODE_SECONDS = 0.3  # of an answer
BUDGET_TOKENS = 25  # half a second
REUSE_TOKENS = 256  # llama-server's --cache-reuse
PRESET_BATCH = 1024  # of its FIM preset, which its prompts are cut to

PLAIN = Liberties(keep_split=False, kept_lines=0, keep_extra=False, cut=False, pause_seconds=0)


class Stroke(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded request."""

    at_seconds: float
    body: dict[str, Any]

    def gap(self) -> Gap:
        """Return what it asks."""
        extra = tuple(
            ExtraFile(filename=each["filename"], text=each["text"])
            for each in self.body["input_extra"]
        )
        before = self.body["input_prefix"] + self.body["prompt"]
        return Gap(before=before, after=self.body["input_suffix"], extra=extra)


class Residents:
    """Token lists that were read and are still there, at most so many tokens, oldest out first."""

    def __init__(self, capacity: int = KEPT_TOKENS) -> None:
        self.held: list[list[int]] = []
        self._capacity = capacity

    def ready(self, token_ids: list[int]) -> int:
        """Count the leading tokens that need not be read; the last one always is."""
        shared = max((common_prefix_length(each, token_ids) for each in self.held), default=0)
        return min(shared, len(token_ids) - 1)

    def read(self, token_ids: list[int]) -> int:
        """Return what has to be read, and keep the list; it takes the seat of a like one."""
        count = self.ready(token_ids)
        for each in self.held:
            if common_prefix_length(each, token_ids) == count and 2 * count >= len(each):
                self.held.remove(each)
                break
        self.held.append(token_ids)
        while sum(map(len, self.held)) > self._capacity and len(self.held) > 1:
            del self.held[0]
        return len(token_ids) - count


class Costs(msgspec.Struct, kw_only=True):
    """Tokens read while someone waited, request by request, and those read behind their back.

    `num_cut` answers saw no more than a few lines around the cursor.
    """

    waited: list[int] = []
    behind: int = 0
    num_cut: int = 0


def planned(
    strokes: list[Stroke], tokens: FimTokens, tokenize: Tokenize, liberties: Liberties
) -> Costs:
    """Follow the server's own plans; the background reads in the time between requests."""
    residents, costs = Residents(), Costs()
    planner = FimPlanner(tokens, tokenize, liberties, residents.ready)
    budget = BUDGET_TOKENS if liberties.cut else None
    for number, stroke in enumerate(strokes):
        is_warm_up = stroke.body["n_predict"] == 0
        asked = None if is_warm_up else budget
        plan = planner.plan(stroke.gap(), max_tokens=CONTEXT_TOKENS, budget=asked)
        num_read = residents.read(plan.now.prompt.token_ids)
        costs.waited.append(num_read)
        costs.num_cut += plan.now.way.lack is Lack.MUCH
        following = strokes[number + 1 : number + 2]
        pause = following[0].at_seconds - stroke.at_seconds if following else 60.0
        left = pause - DECODE_SECONDS - num_read / TOKENS_PER_SECOND
        for way in plan.later:
            left -= 0 if way.lack is Lack.MUCH else liberties.pause_seconds
            laid = planner.lay(way, CONTEXT_TOKENS)
            room = int(max(left, 0) * TOKENS_PER_SECOND)
            known = len(laid.prompt.token_ids) - laid.num_to_read
            done = residents.read(laid.prompt.token_ids[: known + room]) if room else 0
            costs.behind += done
            left -= done / TOKENS_PER_SECOND
            if done >= laid.num_to_read:
                planner.remember(way)
    return costs


def llama_server(
    strokes: list[Stroke], tokens: FimTokens, tokenize: Tokenize, *, reuse: int
) -> Costs:
    """Follow llama-server with its FIM preset: one sequence, chunks moved when long enough.

    Source: llama.cpp's server, `format_prompt_infill` and the slot's cache reuse.
    """
    costs, held = Costs(), list[int]()
    for stroke in strokes:
        gap = stroke.gap()
        before, after = tokenize(gap.before), tokenize(gap.after)
        quarter = PRESET_BATCH // 4
        laid = lay_out(tokens, tokenize, prefix="", suffix="", extra=gap.extra).token_ids[:-3]
        assert tokens.prefix is not None and tokens.suffix is not None  # noqa: PT018  # for mypy
        assert tokens.middle is not None  # a model without them is refused before
        prompt = [
            *laid,
            tokens.prefix,
            *before[-(3 * quarter - 3) :],
            tokens.suffix,
            *after[: quarter - 2],
            tokens.middle,
        ]
        costs.waited.append(len(prompt) - _reused(held, prompt, reuse))
        held = prompt
    return costs


def _reused(held: list[int], prompt: list[int], reuse: int) -> int:
    """Count what a slot keeps: the equal beginning, then equal chunks wherever they moved."""
    count = common_prefix_length(held, prompt)
    at_held = at_prompt = count
    while reuse and at_held < len(held) and at_prompt < len(prompt):
        run = common_prefix_length(held[at_held:], prompt[at_prompt:])
        if run >= reuse:
            count += run
            at_held, at_prompt = at_held + run, at_prompt + run
        else:
            at_held += 1
    return min(count, len(prompt) - 1)


STRATEGIES: dict[str, Liberties] = {
    "longest prefix": PLAIN,
    "+ window kept": msgspec.structs.replace(PLAIN, kept_lines=512),
    "suffix first (SPM)": msgspec.structs.replace(PLAIN, order="spm"),
    "suffix first + window kept": msgspec.structs.replace(PLAIN, order="spm", kept_lines=512),
    "split kept": msgspec.structs.replace(PLAIN, keep_split=True),
    "split and window kept": msgspec.structs.replace(PLAIN, keep_split=True, kept_lines=512),
    "split, window, extra kept": msgspec.structs.replace(
        PLAIN, keep_split=True, kept_lines=512, keep_extra=True
    ),
    "all": Liberties(),
}


def table(strokes: list[Stroke], tokens: FimTokens, tokenize: Tokenize) -> Iterator[str]:
    """Yield a Markdown table, a strategy a line."""
    yield "| strategy | mean | p50 | p95 | most | behind, a request | few lines |"
    yield "|---|---|---|---|---|---|---|"
    runs: dict[str, Callable[[], Costs]] = {
        "llama-server, its preset without reuse": lambda: llama_server(
            strokes, tokens, tokenize, reuse=0
        ),
        "llama-server, FIM preset (reuse 256)": lambda: llama_server(
            strokes, tokens, tokenize, reuse=REUSE_TOKENS
        ),
    }
    for name, liberties in STRATEGIES.items():
        runs[name] = lambda each=liberties: planned(  # type: ignore[misc]
            strokes, tokens, tokenize, each
        )
    for name, run in runs.items():
        costs = run()
        cuts = quantiles(costs.waited, n=20, method="inclusive")
        yield (
            f"| {name} | {mean(costs.waited):.0f} | {cuts[9]:.0f} | {cuts[18]:.0f} "
            f"| {max(costs.waited)} | {costs.behind / len(strokes):.0f} "
            f"| {costs.num_cut / len(strokes):.0%} |"
        )


@contextmanager
def vocabulary(path: Path) -> Iterator[Vocabulary]:
    """Load a model's tokens alone. Raises: ModelLoadError."""
    lib = library()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    handle = lib.llama_model_load_from_file(str(path).encode(), params)
    if not handle:
        raise ModelLoadError(f"{path} cannot be loaded")
    try:
        yield Vocabulary(lib.llama_model_get_vocab(handle))
    finally:
        lib.llama_model_free(handle)


def main() -> None:
    """Print a table for every session."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a GGUF with FIM tokens")
    parser.add_argument("sessions", type=Path, nargs="+")
    args = parser.parse_args()
    with vocabulary(args.model) as words:
        tokens = FimTokens(
            prefix=words.special("fim_pre"),
            suffix=words.special("fim_suf"),
            middle=words.special("fim_mid"),
            repository=words.special("fim_rep"),
            separator=words.special("fim_sep"),
        )
        for path in args.sessions:
            lines = lzma.decompress(path.read_bytes()).splitlines()
            strokes = [msgspec.json.decode(line, type=Stroke) for line in lines]
            print(f"\n### {path.name.split('.')[0]}: {len(strokes)} requests\n")
            for line in table(
                strokes,
                tokens,
                lambda text: words.tokenize(text, add_special=False, parse_special=False),
            ):
                print(line)


if __name__ == "__main__":
    main()
