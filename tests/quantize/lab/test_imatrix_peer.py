"""The same on both sides is said by kind of weight; other tokens are refused."""

import sys

import numpy as np
import pytest

from quantize.imatrix.collect import collect
from quantize.imatrix.file import Imatrix, write
from quantize.lab.imatrix_peer import chunks_of, main

TEXT = "def add(a, b):\n    return a + b\n\n" * 30


@pytest.fixture
def peer(tmp_path):
    """Write a program that gives a matrix out, where llama-imatrix would collect it."""

    def give(matrix):
        write(tmp_path / "given.gguf", matrix, {})
        path = tmp_path / "peer"
        path.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n"
            f"shutil.copy('{tmp_path}/given.gguf', sys.argv[sys.argv.index('-o') + 1])\n"
        )
        path.chmod(0o755)
        return str(path)

    return give


@pytest.fixture
def asked(tiny_merged, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    return [str(tiny_merged / "f16.gguf"), str(text), "--chunk", "64", "--chunks", "2"]


def test_the_largest_deviation_is_told_by_kind_and_other_tokens_are_refused(
    tiny_merged, asked, peer, capsys
):
    model = tiny_merged / "f16.gguf"
    chunks = chunks_of(model, TEXT, 64, 2)
    assert [len(chunk) for chunk in chunks] == [64, 64]
    entries = collect(model, chunks, n_batch=64).entries
    entries["blk.1.ffn_down.weight"].sums[0, 3] *= 1.25
    assert main([*asked, "--peer", peer(Imatrix(entries=entries))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8
    (down,) = (line for line in lines if line.startswith("| ffn_down.weight | 2 |"))
    assert down.split("|")[3].strip() == "2.0e-01"
    assert sum("| 0.0e+00 | 0.0e+00 |" in line for line in lines) == 7

    entries["blk.0.attn_q.weight"].counts[:] = np.int64(1)
    assert main([*asked, "--peer", peer(Imatrix(entries=entries))]) == 2
    assert "blk.0.attn_q.weight saw other tokens" in capsys.readouterr().err
