"""Ask a server for every sample that is still missing, several at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from clients.errors import BadRequestError, ContextLengthError, NotFoundError, UsageError
from clients.evaluate import samples
from clients.evaluate.samples import Sample
from clients.evaluate.solutions import DEFAULT_MODES, TOP_LEVEL, Mode, question, text_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from clients.async_client import AsyncClient
    from clients.calls import Options
    from clients.evaluate.problems import Problem


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. `seed` grows by one a sample, so that n samples differ."""

    num_samples: int = 1
    mode: Mode | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    concurrency: int = 4

    def mode_for(self, problem: Problem) -> Mode:
        """Return how a problem is asked."""
        return self.mode or DEFAULT_MODES[problem.kind]

    def identity(self, model: str | None) -> str:
        """Return what answers depend on, for resuming."""
        return (
            f"model={model} mode={self.mode or 'default'} max_tokens={self.max_tokens} "
            f"temperature={self.temperature:g} seed={self.seed}"
        )


async def generate(
    client: AsyncClient,
    problems: Sequence[Problem],
    plan: Plan,
    file: Path,
    *,
    on_progress: Callable[[int, int], None],
) -> None:
    """Append every missing sample to `file`; `on_progress` hears (done, total).

    Raises:
        ClientError: the server failed; what came until then is in the file.
    """
    earlier = samples.resume(file, plan.identity(client.model))
    done = {(item.task_id, item.sample) for item in earlier}
    wanted = [(problem, n) for n in range(plan.num_samples) for problem in problems]
    missing = [(problem, n) for problem, n in wanted if (problem.task_id, n) not in done]
    num_done = len(wanted) - len(missing)
    gate = asyncio.Semaphore(plan.concurrency)

    async def one(problem: Problem, number: int) -> None:
        nonlocal num_done
        async with gate:
            sample = await _sample(client, problem, plan, number)
        samples.append(file, sample)
        num_done += 1
        on_progress(num_done, len(wanted))

    on_progress(num_done, len(wanted))
    async with asyncio.TaskGroup() as group:
        for problem, number in missing:
            group.create_task(one(problem, number))


async def _sample(client: AsyncClient, problem: Problem, plan: Plan, number: int) -> Sample:
    answer, reason = await _ask(client, problem, plan, seed=plan.seed + number)
    return Sample(
        task_id=problem.task_id,
        completion=answer,
        sample=number,
        mode=plan.mode_for(problem),
        finish_reason=reason,
        model=client.model,
        settings=plan.identity(client.model),
    )


async def _ask(
    client: AsyncClient, problem: Problem, plan: Plan, *, seed: int
) -> tuple[str, str | None]:
    """Return one answer and why it ended."""
    max_tokens, temperature = plan.max_tokens, plan.temperature
    mode = plan.mode_for(problem)
    if mode == "chat":
        chat = await client.chat(
            question(problem), max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        return chat.text, chat.finish_reason
    if mode == "fim":
        return await _fill(client, problem, plan, seed=seed)
    stop = () if problem.kind == "instruction" else TOP_LEVEL
    text = await client.complete(
        text_prompt(problem), max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop
    )
    return text.text, text.finish_reason


async def _fill(
    client: AsyncClient, problem: Problem, plan: Plan, *, seed: int
) -> tuple[str, str | None]:
    """Fill a gap by /infill, and by a completion with a suffix where the server lacks it.

    Raises:
        UsageError: the server has neither.
    """
    options: Options = {
        "max_tokens": plan.max_tokens,
        "temperature": plan.temperature,
        "seed": seed,
    }
    before, after = problem.prompt, problem.suffix
    try:
        infill = await client.fim(before, after, **options)
    except NotFoundError:
        try:
            filled = await client.complete(before, suffix=after, **options)
        except ContextLengthError:
            raise
        except (BadRequestError, NotFoundError) as error:
            raise UsageError(
                f"the server has no /infill, and /v1/completions takes no suffix: {error}; serve "
                "a model that fills in the middle, or give --mode completion"
            ) from error
        return filled.text, filled.finish_reason
    return infill.text, infill.finish_reason
