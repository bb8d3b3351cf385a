"""What makes two fine-tunes the same: configuration, inputs, tools and this program's own code.

Knows what goes into a run, nothing of how it is trained.
"""

from pathlib import Path
from typing import Any

import msgspec

from finetune import base_model, provenance
from finetune.base_model import BaseSource
from finetune.config import Config, to_plain
from finetune.data.examples import Dataset
from finetune.data.files import sha256_data
from finetune.data.gate import GateReport, pass_gate
from finetune.data.sources import load_dataset
from finetune.errors import RunError
from finetune.fingerprint import sha256_code, sha256_json
from finetune.parent import Parent, adopted, check_base, read_parent
from finetune.processes import say
from finetune.template import template_sha256

MAKES_RUNS = "finetune.job"  # this module and all it imports: every line that shapes a run


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration with its inputs identified; `identity` is what the hash covers.

    `parent` is the run whose adapter is trained further.
    """

    config: Config
    source: BaseSource
    parent: Parent | None
    dataset: Dataset
    gate: GateReport
    identity: dict[str, Any]

    @property
    def config_hash(self) -> str:
        """The SHA-256 that two equal fine-tunes share."""
        return sha256_json(self.identity)


def identify(config: Config) -> Job:
    """Locate base and data and compute the identity of the fine-tune."""
    source = base_model.identify(config.base_model.ref)
    parent = read_parent(config.base_model.adapter) if config.base_model.adapter else None
    if parent is not None:
        check_base(parent, source)
        config = adopted(config, parent)
    template = template_sha256(config.template)
    dataset, gate = pass_gate(load_dataset(config.data, seed=config.train.seed), config.data)
    inputs = {"base_model": source.sha256, "data": dataset.sha256, "template": template}
    for problems in config.data.decontaminate:
        inputs[f"problems {problems}"] = sha256_data(Path(problems).expanduser())
    if parent is not None:
        inputs["adapter"] = parent.sha256
    identity = {
        "config": to_plain(config),
        "inputs": inputs,
        "versions": provenance.versions(),
        "code": sha256_code(MAKES_RUNS),
    }
    return Job(
        config=config,
        source=source,
        parent=parent,
        dataset=dataset,
        gate=gate,
        identity=identity,
    )


def refuse_changes(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a run whose identity is another one now.

    Other code alone is stated: whether it makes the same rows is found out once they are there.

    Raises:
        RunError: names what changed.
    """
    changed = [
        f"{group}.{name} was {before[group].get(name)}, is {value}"
        for group in ("inputs", "versions", "config")
        for name, value in now[group].items()
        if before[group].get(name) != value
    ]
    if changed:
        raise RunError(
            f"{run} cannot be resumed, its inputs changed: {'; '.join(changed)}; start a new run"
        )
    if before.get("code") != now["code"]:
        say("note: this run was begun by another version of this program")
