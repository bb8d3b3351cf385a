"""Both quantize the same file in turns, and what they wrote is compared byte by byte."""

import json
import sys
from pathlib import Path

import pytest

import quantize
from quantize.lab.beside_peer import main

ROOT = Path(quantize.__file__).parent.parent
SAME = """from pathlib import Path
sys.path.insert(0, "{root}")
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.llama.quant_types import table
quantize_file(Path(args[0]), Path(args[1]), TypeChoice(quant_type=table()["{kind}"]))
"""


@pytest.fixture
def peer(tmp_path):
    """Write programs that take what llama-quantize takes."""

    def write(text):
        path = tmp_path / "peer"
        path.write_text(f"#!{sys.executable}\nimport sys\nargs = sys.argv[1:]\n{text}")
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize(("kind", "same"), [("q4_0", True), ("q4_1", False)])
def test_what_both_wrote_is_compared(tiny_merged, peer, capsys, kind, same):
    program = peer(SAME.format(kind=kind, root=ROOT))
    asked = ["--peer", str(program), "--type", "q4_0", "--rounds", "1"]
    assert main([str(tiny_merged / "f16.gguf"), *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same_tensors"] is same
    assert 0 < found["quantize_seconds"] < found["step_seconds"]
    assert found["ratio"] == pytest.approx(found["quantize_seconds"] / found["peer_seconds"])
    assert not list(tiny_merged.glob("*.partial"))


def test_a_peer_that_fails_is_told_with_its_last_words(tiny_merged, peer, capsys):
    program = peer("sys.exit('no such type')")
    assert main([str(tiny_merged / "f16.gguf"), "--peer", str(program), "--rounds", "1"]) == 2
    assert "peer ended with status 1: no such type" in capsys.readouterr().err
