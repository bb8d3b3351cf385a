"""The model card: what the adapter was made from, under which licences, how, and how well.

Reads a manifest. Makes no claim that the manifest does not hold.
"""

from typing import Any

from finetune.report import machine, shown

FIGURES = (
    "heldout_response_loss_before_nats",
    "heldout_response_loss_after_nats",
    "final_train_loss_nats",
    "train_tokens",
    "num_train_examples",
    "num_heldout_examples",
    "train_seconds",
)


def model_card(manifest: dict[str, Any]) -> str:
    """Write the card as Markdown with front matter."""
    base = manifest["base_model"]
    data = [entry for entry in manifest["inputs"] if entry["role"] == "data"]
    parts = [
        _front_matter(base, data),
        _origin(base, data),
        _training(manifest),
        _figures(manifest),
    ]
    return "\n".join([*parts, _limits(manifest)])


def _front_matter(base: dict[str, Any], data: list[dict[str, Any]]) -> str:
    lines = ["---", f"base_model: {base['ref']}", "library_name: peft"]
    lines += [f"license: {base['licence'].lower()}"] if base["licence"] else []
    lines += ["datasets:", *(f"  - {entry['ref']}" for entry in data)]
    return "\n".join([*lines, "tags:", "  - code", "  - lora", "---", ""])


def _origin(base: dict[str, Any], data: list[dict[str, Any]]) -> str:
    lines = [
        f"# LoRA adapter for {base['ref']}",
        "",
        "| from | licence | SHA-256 |",
        "|---|---|---|",
        f"| base model {base['ref']} | {base['licence'] or 'unknown'} | `{base['sha256'][:16]}` |",
    ]
    for entry in data:
        licence = entry["licence"] or "unknown"
        lines.append(f"| data {entry['ref']} | {licence} | `{entry['sha256'][:16]}` |")
    unknown = [entry["ref"] for entry in (base, *data) if not entry["licence"]]
    if unknown:
        lines.append(
            f"\n**Warning:** the licence of {', '.join(unknown)} is unknown. Find it out before "
            "sharing this adapter, then set `base_model.licence` or `data.licence`."
        )
    return "\n".join([*lines, ""])


def _training(manifest: dict[str, Any]) -> str:
    lora, train = manifest["config"]["lora"], manifest["config"]["train"]
    kind = "rsLoRA" if lora["use_rslora"] else "LoRA"
    width = "4-bit base" if train["load_in_4bit"] else "unquantized base"
    text = (
        "## Training\n\n"
        f"{kind} with r={lora['r']}, alpha={lora['alpha']} on {', '.join(lora['target_modules'])}; "
        f"{width}; learning rate {train['learning_rate']:g} ({train['lr_scheduler']}); "
        f"{train['batch_size']} x {train['grad_accumulation']} examples a step; seed "
        f"{train['seed']}. Only the assistant's answers and their end-of-turn token carry loss. "
        f"Trained on {machine(manifest['hardware'])}.\n"
    )
    if manifest["base_model"]["quantized_from"]:
        text += (
            f"\nThe base weights came out of a {manifest['base_model']['quantized_from']} file, so "
            "comparisons of quantization types on this model say little about other models.\n"
        )
    return text


def _figures(manifest: dict[str, Any]) -> str:
    metrics = manifest["metrics"]
    rows = [f"| {name} | {shown(metrics[name])} |" for name in FIGURES]
    return "\n".join(["## Figures", "", "| figure | value |", "|---|---:|", *rows, ""])


def _limits(manifest: dict[str, Any]) -> str:
    length = manifest["config"]["train"]["max_seq_length"]
    return (
        "## Limits\n\n"
        "The held-out loss shows that the adapter learnt the style of its data; it says nothing "
        "about whether generated code is correct or safe. Review what it writes. It was trained "
        f"on conversations of up to {length} tokens.\n"
    )
