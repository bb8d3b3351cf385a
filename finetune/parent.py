"""A finished fine-tune whose adapter another one goes on training.

The second run takes base, template and shape of the adapter from the first, so that one adapter
comes out that merges into the same base. Knows manifests, no weights.
"""

from pathlib import Path
from typing import Any

import msgspec

from finetune.base_model import BaseSource
from finetune.config import Config, LoraConfig, TemplateConfig
from finetune.errors import ConfigError, RunError
from finetune.fingerprint import sha256_json
from finetune.run import read_manifest

ADAPTER = "adapter"


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The first run and what identifies its adapter."""

    path: Path
    manifest: dict[str, Any]
    sha256: str
    size_bytes: int

    @property
    def adapter(self) -> Path:
        """The folder of the adapter to go on with."""
        return self.path / ADAPTER

    def input_entries(self) -> list[dict[str, Any]]:
        """Return the manifest's entries: the run, and the data it has learnt from."""
        names = {"ref": self.path.name, "sha256": self.sha256, "size_bytes": self.size_bytes}
        data = [entry for entry in self.manifest["inputs"] if entry["role"] == "data"]
        return [{"role": "finetune_run", **names, "licence": None}, *data]


def read_parent(ref: str) -> Parent:
    """Read the run that `base_model.adapter` names.

    Raises:
        RunError: unfinished, or its adapter cannot be gone on with.
    """
    path = Path(ref).expanduser().resolve()
    manifest = read_manifest(path)
    files = [entry for entry in manifest["outputs"] if entry["role"] == ADAPTER]
    facts = msgspec.json.decode((path / ADAPTER / "adapter_config.json").read_bytes())
    if facts.get("trainable_token_indices"):
        raise RunError(
            f"{path} has learnt new tokens, which a second adapter run cannot go on with; merge "
            "it with `python -m quantize` and start from the merged folder"
        )
    return Parent(
        path=path,
        manifest=manifest,
        sha256=sha256_json([entry["sha256"] for entry in files]),
        size_bytes=sum(entry["size_bytes"] for entry in files),
    )


def adopted(config: Config, parent: Parent) -> Config:
    """Return the configuration with adapter shape and template of the parent.

    Raises:
        ConfigError: the user wants another shape or template.
    """
    earlier = parent.manifest["config"]
    lora = msgspec.convert(earlier["lora"], LoraConfig)
    template = msgspec.convert(earlier["template"], TemplateConfig)
    for name, mine, theirs, default in (
        ("lora", config.lora, lora, LoraConfig()),
        ("template", config.template, template, TemplateConfig()),
    ):
        if mine not in {theirs, default}:
            raise ConfigError(
                f"[{name}] differs from that of {parent.path.name}, whose adapter is gone on with; "
                "leave it out"
            )
    base = msgspec.structs.replace(config.base_model, adapter=str(parent.path))
    return msgspec.structs.replace(config, lora=lora, template=template, base_model=base)


def check_base(parent: Parent, source: BaseSource) -> None:
    """Refuse another base than the adapter was made for.

    Raises:
        ConfigError: the bytes differ.
    """
    made_for = parent.manifest["base_model"]
    if made_for["sha256"] != source.sha256:
        raise ConfigError(
            f"base_model.ref is {source.ref}, but the adapter of {parent.path.name} was made for "
            f"{made_for['ref']} (sha256 {made_for['sha256'][:12]}); set base_model.ref to that"
        )
