"""A PEFT LoRA adapter as a GGUF adapter, by llama.cpp's own converter in a subprocess.

llama.cpp applies B A with alpha / rank, one alpha a file. That is not what every adapter means: a
rank-stabilised one divides by the root of its rank, patterns give modules an alpha of their own.
What is handed to the converter is therefore a copy that says the same in those terms.
"""

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from quantize.convert.adapter import Adapter, read_adapter
from quantize.convert.converter import run_converter
from quantize.errors import ConversionError, MergeError, SourceError
from quantize.llama.gguf_header import read_header
from quantize.run import say
from quantize.source import resolve

_CLOSE = 1e-9


def convert_adapter(folder: Path, base: Path, target: Path, *, log: Path) -> None:
    """Write the adapter in `folder` as GGUF; `base` is the Hugging Face folder it changes.

    Raises:
        ConversionError: when it does more than LoRA, with the reason, or the converter fails.
    """
    try:
        adapter = read_adapter(folder)
    except MergeError as error:
        raise ConversionError(f"no GGUF adapter can carry this: {error}") from error
    if reason := adapter.beyond_lora():
        raise ConversionError(
            f"no GGUF adapter can carry this: {reason}; quantize the run instead, which merges it"
        )
    with tempfile.TemporaryDirectory() as scratch:
        restated = Path(scratch) / "adapter"
        restated.mkdir()
        _restate(folder, adapter, restated)
        arguments = ["--base", str(base.resolve()), "--outfile", str(target.resolve())]
        run_converter("convert_lora_to_gguf.py", restated, [*arguments, "--outtype", "f32"], log)
    read_header(target)


def export_adapter(source: str | None, target: Path) -> Path:
    """Write the adapter of a finetune run, the newest by default, as one GGUF file."""
    found, chosen = resolve(source)
    say(chosen)
    if found.kind != "finetune_run":
        raise SourceError(f"{found.path} is no finetune run and so holds no adapter")
    partial = target.with_name(target.name + ".partial")
    log = target.with_name(target.name + ".log")
    convert_adapter(found.path / "adapter", found.weights, partial, log=log)
    partial.replace(target)
    log.unlink()
    return target


def _restate(folder: Path, adapter: Adapter, target: Path) -> None:
    """Copy an adapter so that alpha / rank is the factor of every pair."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter.weights)
    settings: dict[str, Any] = json.loads(
        (folder / "adapter_config.json").read_text(encoding="utf-8")
    )
    alphas = {
        pair.weight: pair.scale * tensors[pair.a_name].shape[0] for pair in adapter.pairs.values()
    }
    alpha = next(iter(alphas.values()))
    weights = target / "adapter_model.safetensors"
    if all(math.isclose(each, alpha, rel_tol=_CLOSE) for each in alphas.values()):
        shutil.copyfile(adapter.weights, weights)
    else:
        for pair in adapter.pairs.values():
            tensors[pair.b_name] = tensors[pair.b_name].float() * (alphas[pair.weight] / alpha)
        save_file(tensors, weights)
    settings |= {"lora_alpha": alpha, "use_rslora": False, "alpha_pattern": {}}
    (target / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
