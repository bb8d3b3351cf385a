"""What makes two fine-tunes the same."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune import identity, job
from finetune.config import load_config
from finetune.errors import RunError
from finetune.fingerprint import sha256_code
from finetune.identity import MAKES_RUNS, identify, refuse_changes
from finetune.run import Run


@pytest.fixture
def package(tmp_path):
    """A package of which `start` needs `used` and, late, `deep`, but not `other`."""
    folder = tmp_path / "pack"
    (folder / "inner").mkdir(parents=True)
    sources = {
        "start.py": "import json\nfrom pack import used\n",
        "used.py": "def late():\n    from pack.inner.deep import x\n    return x\n",
        "inner/deep.py": "import pack.start\nx = 1\n",
        "other.py": "y = 1\n",
    }
    for name, source in sources.items():
        (folder / name).write_text(source, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "counts"),
    [("start.py", True), ("used.py", True), ("inner/deep.py", True), ("other.py", False)],
)
def test_code_counts_where_a_run_needs_it(package, name, counts):
    before = sha256_code("pack.start", package.parent)
    with (package / name).open("a", encoding="utf-8") as stream:
        stream.write("z = 2\n")
    assert (sha256_code("pack.start", package.parent) != before) == counts


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("recipes/spans.py", True),
        ("data/tokens.py", True),
        ("template.py", True),
        ("noise.py", True),
        ("gguf_base.py", True),
        ("evaluate/command.py", False),
        ("html_report/chart.py", False),
        ("bench/command.py", False),
    ],
)
def test_a_changed_recipe_is_another_run_and_a_changed_page_is_not(tmp_path, name, counts):
    here = Path(identity.__file__).parent
    shutil.copytree(here, tmp_path / "finetune", ignore=shutil.ignore_patterns("__pycache__"))
    before = sha256_code(MAKES_RUNS, tmp_path)
    assert before == sha256_code(MAKES_RUNS)
    with (tmp_path / "finetune" / name).open("a", encoding="utf-8") as stream:
        stream.write("CHANGED = True\n")
    assert (sha256_code(MAKES_RUNS, tmp_path) != before) == counts


@pytest.fixture
def config(tiny_model, rows_file, tmp_path):
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"task_id": "a", "prompt": "multiply some numbers"}\n', encoding="utf-8")
    file = tmp_path / "config.toml"
    file.write_text(
        f'[base_model]\nref = "{tiny_model}"\n'
        f'[data]\nsource = "file"\npath = "{rows_file}"\ndecontaminate = ["{problems}"]\n',
        encoding="utf-8",
    )
    return load_config(file, [])


def test_the_same_configuration_is_the_same_run(config):
    assert identify(config).config_hash == identify(config).config_hash


def test_other_code_is_another_run_and_may_go_on_with_an_unfinished_one(
    config, monkeypatch, tmp_path, capsys
):
    before = identify(config)
    monkeypatch.setattr(identity, "sha256_code", lambda _: "other")
    now = identify(config)
    assert now.config_hash != before.config_hash
    refuse_changes(tmp_path, before.identity, now.identity)
    assert "begun by another version of this program" in capsys.readouterr().err


def test_other_benchmark_problems_are_another_run(config, tmp_path):
    before = identify(config)
    with (tmp_path / "problems.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"task_id": "b", "prompt": "divide some numbers"}\n')
    now = identify(config)
    assert now.config_hash != before.config_hash
    with pytest.raises(RunError, match=r"inputs\.problems .*problems\.jsonl was"):
        refuse_changes(tmp_path, before.identity, now.identity)


def test_a_run_goes_on_with_its_own_token_ids_only(tmp_path):
    run = Run(tmp_path)
    run.log("data_prepared", rows_sha256="a")
    job._refuse_other_rows(run, SimpleNamespace(rows_sha256="a"))
    with pytest.raises(RunError, match="give other token ids than the run was begun with"):
        job._refuse_other_rows(run, SimpleNamespace(rows_sha256="b"))
