"""A Hugging Face folder into a 16-bit GGUF, by llama.cpp's own converter in a subprocess."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quantize.errors import ConversionError
from quantize.llama.cpp_source import converter_folder
from quantize.llama.gguf_header import read_header

_QUOTED_LINES = 4


def convert_to_f16(model: Path, target: Path, *, name: str, log: Path) -> None:
    """Write `model` as an f16 GGUF to `target`; what the converter says goes to `log`.

    Raises:
        ConversionError: when the converter fails, with its last lines.
        GgufError: when what it wrote is not whole.
    """
    require_convertible_tokenizer(model)
    arguments = ["--outtype", "f16", "--outfile", str(target.resolve()), "--model-name", name]
    try:
        run_converter("convert_hf_to_gguf.py", model, arguments, log)
    except ConversionError:
        target.unlink(missing_ok=True)
        raise
    read_header(target)


def run_converter(script: str, model: Path, arguments: Sequence[str], log: Path) -> None:
    """Run one of llama.cpp's converters on a folder; what it says goes to `log`.

    Raises:
        ConversionError: when it fails, with its last lines.
    """
    tools = converter_folder()
    command = [sys.executable, str(tools / script), str(model.resolve()), *arguments]
    with log.open("ab") as stream:
        done = subprocess.run(
            command, cwd=tools, env=_offline(), stdout=stream, stderr=stream, check=False
        )
    if done.returncode != 0:
        raise ConversionError(_explained(model, log))


def _offline() -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key != "NO_LOCAL_GGUF"}
    return env | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "",
    }


def _explained(model: Path, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = " | ".join(line.strip() for line in lines[-_QUOTED_LINES:])
    if any("pre-tokenizer was not recognized" in line for line in lines):
        return (
            f"llama.cpp's converter does not know the tokenizer of {model}: its pre-tokenizer was "
            f"not recognised. Keep the base model's tokenizer unchanged. Whole output: {log}"
        )
    return f"llama.cpp's converter refused {model}: {last} (whole output: {log})"


def require_convertible_tokenizer(model: Path) -> None:
    """Refuse a byte-level tokenizer that the converter would take for SentencePiece.

    A tokenizer rebuilt from a GGUF can come back so; the file made with it would split text
    differently, and llama.cpp ends the process on a byte that such a vocabulary lacks.

    Raises:
        ConversionError: naming the setting to correct.
    """
    path = model / "tokenizer.json"
    if not path.is_file():
        return
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    byte_level = "ByteLevel" in json.dumps(tokenizer.get("pre_tokenizer"))
    if byte_level and tokenizer.get("model", {}).get("byte_fallback"):
        raise ConversionError(
            f"{path} is a byte-level BPE tokenizer but says model.byte_fallback = true, so the "
            "converter would take it for SentencePiece; rebuild it with byte_fallback false, a "
            "ByteLevel decoder and the base model's own pre-tokenizer"
        )
