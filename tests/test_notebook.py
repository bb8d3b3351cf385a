"""The notebook for a rented GPU, cell by cell on a tiny model; its installation is left out."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "finetune" / "colab.ipynb"
SETTINGS = (
    "data.source=file",
    "data.path=rows.jsonl",
    "train.max_seq_length=128",
    "train.max_steps=2",
    "train.grad_accumulation=2",
)
QUANTIZE = "--types f16 --no-verify --no-measure"  # tests/test_end_to_end.py does both
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def tags(cell):
    return cell["metadata"].get("tags", [])


def test_it_is_short_and_holds_no_output():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) <= 12
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert sum("install" in tags(cell) for cell in code) == 2


@pytest.fixture
def tiny_base(tmp_path, smollm2_gguf):
    """A folder with a two-layer random model that speaks SmolLM2's tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from finetune import base_model
    from finetune.config import BaseModelConfig
    from finetune.libraries import load_tokenizer

    source = base_model.identify(str(smollm2_gguf))
    found = base_model.make_loadable(source, BaseModelConfig(ref=str(smollm2_gguf)))
    tokenizer = load_tokenizer(str(found.weights))
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path / "tiny-model"
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def prepared(folder, base):
    """Write the notebook with its parameters set and its installation taken out."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    notebook["cells"] = [cell for cell in notebook["cells"] if "install" not in tags(cell)]
    (parameters,) = (cell for cell in notebook["cells"] if "parameters" in tags(cell))
    options = " ".join(f"--set {item}" for item in (*SETTINGS, f"base_model.ref={base}"))
    default = NOTEBOOK.parent / "configs" / "default.toml"
    values = {
        "CONFIG": str(default),
        "OPTIONS": options,
        "QUANTIZE": QUANTIZE,
        "PORT": str(free_port()),
    }
    parameters["source"] = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    path = folder / "notebook.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def shown(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output.get("text", ())) for output in outputs)


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_cell_runs_from_training_to_an_answer(tmp_path, tiny_base):
    pytest.importorskip("nbclient", reason="the development extra brings it")
    rows = ({"instruction": f"add {n}", "output": f"return a + {n}"} for n in range(8))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    path = prepared(tmp_path, tiny_base)
    environment = os.environ | {
        "EDGESMITH_HOME": str(tmp_path),
        "PYTHONPATH": str(NOTEBOOK.parent.parent),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (gguf,) = (tmp_path / "runs" / "quantize").glob("*/*-f16.gguf")
    said = shown(path)
    assert str(gguf.parent) in said
    assert (tmp_path / "runs" / "reports").is_dir()
