"""A model card in Hugging Face's form, from what a run holds and what was measured of it."""

from collections.abc import Sequence
from typing import Any

from quantize.measure.measurements import Measurement
from quantize.report.recommend import Recommendation
from quantize.report.tables import table
from quantize.run import Manifest

FILE = "MODEL_CARD.md"


def model_card(
    written: Manifest,
    *,
    entries: Sequence[Measurement],
    recommendation: Recommendation,
    prompt: str | None,
    stops: Sequence[str],
    modelfile: str,
) -> str:
    """Return the card. `modelfile` says where the Ollama file is, or why there is none."""
    base = written.base_model
    lines = [
        "---",
        *_front_matter(base.licence, base.ref),
        "---",
        "",
        f"# GGUF files of {base.ref}",
        "",
        f"Made from `{base.ref}`" + _tuned(written) + ", "
        f"by llama.cpp {written.versions.get('llama.cpp', 'of an unknown commit')}.",
        "",
        f"Start with **{recommendation.file or 'none'}**: {recommendation.reason}.",
        "",
        "## Prompt",
        "",
        *_prompt(prompt),
        f"Generation stops at {', '.join(f'`{stop}`' for stop in stops)}.",
        "",
        modelfile,
        "",
    ]
    if entries:
        machine = entries[0].machine
        title = f"## Measured on {machine['cpu']}, {machine['num_cores']} cores"
        lines += [title, "", *table(entries), ""]
    lines += ["## Licences", "", *_licences(written), ""]
    return "\n".join(lines)


def _front_matter(licence: str | None, ref: str) -> list[str]:
    lines = [f"base_model: {_yaml(ref)}", "tags: [gguf, quantized]"]
    if licence:
        lines.insert(0, f"license: {_yaml(licence.lower())}")
    return lines


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _tuned(written: Manifest) -> str:
    run = next((each for each in written.inputs if each.role == "finetune_run"), None)
    return f" and the adapter of the finetune run with SHA-256 `{run.sha256}`" if run else ""


def _prompt(prompt: str | None) -> list[str]:
    if prompt is None:
        return ["The files carry no chat template: they continue text.", ""]
    return ["As the template inside the files writes it:", "", "```", prompt, "```", ""]


def _licences(written: Manifest) -> list[str]:
    found: dict[str, Any] = {f"base model `{written.base_model.ref}`": written.base_model.licence}
    for record in written.inputs:
        found[f"{record.role} `{record.ref.rpartition('/')[2]}`"] = record.licence
    return [f"- {name}: {licence or 'not stated'}" for name, licence in found.items()]
