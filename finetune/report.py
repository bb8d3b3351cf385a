"""The report of a finished run: a loss curve and a page of figures.

Reads what the run logged. Knows no trainer.
"""

from pathlib import Path
from typing import Any

from finetune.run import Run

FOLDER = "report"


def write_report(run: Run, manifest: dict[str, Any]) -> None:
    """Write report/report.md and report/loss.png."""
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    steps = {event["step"]: event["loss_nats"] for event in run.events("step")}
    _plot(folder / "loss.png", steps, manifest["metrics"])
    (folder / "report.md").write_text(_page(manifest), encoding="utf-8")


def _plot(path: Path, steps: dict[int, float], metrics: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(list(steps), list(steps.values()), linewidth=1.5, label="training answers")
    ends = [0, max(steps)]
    held = [metrics[f"heldout_response_loss_{moment}_nats"] for moment in ("before", "after")]
    axes.plot(ends, held, "o--", label="held-out answers, before and after")
    axes.set(xlabel="step", ylabel="loss, nats per answer token")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _page(manifest: dict[str, Any]) -> str:
    rows = [f"| {name} | {shown(value)} |" for name, value in manifest["metrics"].items()]
    versions = ", ".join(f"{name} {text}" for name, text in manifest["versions"].items())
    return "\n".join(
        [
            f"# Fine-tune {manifest['run_id']}\n",
            f"Base: {manifest['base_model']['ref']}. Data: {_refs(manifest)}.\n",
            "![loss](loss.png)\n",
            "| figure | value |\n|---|---:|",
            *rows,
            f"\nMachine: {machine(manifest['hardware'])}. Seed {manifest['seed']}, commit "
            + _commit(manifest["git"]),
            f"\nVersions: {versions}\n",
            "Reproduce: `python -m finetune --config config.toml --force` with this run's file.\n",
        ]
    )


def _commit(git: dict[str, Any]) -> str:
    commit = git["commit"] or "unknown"
    return f"{commit}, with uncommitted changes." if git["dirty"] else f"{commit}."


def shown(value: float) -> str:
    """Write a figure: integers with separators, others with five digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def machine(hardware: dict[str, Any]) -> str:
    """Describe the hardware in one phrase."""
    memory = f"{hardware['memory_bytes'] / 2**30:.0f} GiB"
    cpu = f"{hardware['cpu']}, {hardware['num_cores']} cores, {memory}"
    return f"{hardware['gpu']} ({cpu})" if hardware["gpu"] else cpu


def _refs(manifest: dict[str, Any]) -> str:
    return ", ".join(entry["ref"] for entry in manifest["inputs"] if entry["role"] == "data")
