"""A run and a figure belong to the code that made them."""

import shutil
from pathlib import Path

import pytest

from quantize import digest, plan
from quantize.config import MeasureConfig, QuantizeConfig
from quantize.measure import measuring
from quantize.plan import MAKES_FILES


@pytest.mark.parametrize(
    ("name", "makes_files", "measures"),
    [
        ("convert/merge.py", True, False),
        ("imatrix/collect.py", True, False),
        ("budget/search.py", True, False),
        ("llama/metadata.py", True, False),
        ("measure/quality.py", False, True),
        ("perplexity.py", True, True),  # a budget is searched with it, too
        ("measure/speed_probe.py", False, True),
        ("report/tables.py", False, False),
        ("report/modelfile.py", False, False),
    ],
)
def test_code_counts_where_it_shapes_bytes_or_figures(tmp_path, name, makes_files, measures):
    here = Path(digest.__file__).parent
    shutil.copytree(here, tmp_path / "quantize", ignore=shutil.ignore_patterns("__pycache__"))

    def digests():
        files = digest.sha256_code(MAKES_FILES, root=tmp_path)
        return files, digest.sha256_code(*measuring._MEASURES, root=tmp_path)

    before = digests()
    with (tmp_path / "quantize" / name).open("a", encoding="utf-8") as stream:
        stream.write("CHANGED = True\n")
    changed = [old != new for old, new in zip(before, digests(), strict=True)]
    assert changed == [makes_files, measures]


def test_a_run_of_other_code_is_not_taken_for_this_one(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    config = QuantizeConfig(types=("f16",))
    before = plan.plan(str(tiny_run), config).config_hash
    assert plan.plan(str(tiny_run), config).config_hash == before
    monkeypatch.setattr(plan, "sha256_code", lambda *_: "other")
    assert plan.plan(str(tiny_run), config).config_hash != before


def test_a_figure_of_other_code_is_measured_again(monkeypatch):
    before = measuring._settings(MeasureConfig(), [], "0" * 64, 512)
    assert measuring._settings(MeasureConfig(), [], "0" * 64, 512) == before
    monkeypatch.setattr(measuring, "sha256_code", lambda *_: "other")
    assert measuring._settings(MeasureConfig(), [], "0" * 64, 512) != before
