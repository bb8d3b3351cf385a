"""The project's own files agree with each other."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def dry_run(*words: str) -> str:
    """What make would do from scratch, without doing it."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_make_help_lists_every_target_of_the_contract():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout
    for target in ("train", "quantize", "serve", "test", "check", "bench", "clean"):
        assert re.search(rf"^  {target} ", text, re.MULTILINE)


def test_serving_installs_no_torch():
    plan = dry_run("serve", "MODEL=x.gguf")
    assert "torch" not in plan
    assert "-m serve --model x.gguf" in plan


def test_main_job_runs_the_stages_in_order():
    plan = dry_run("train", "quantize", "serve")
    positions = [plan.index(f"-m {stage}") for stage in ("finetune", "quantize", "serve")]
    assert positions == sorted(positions)


def test_prebuilt_wheel_replaces_the_compile():
    plan = dry_run("serve", "LLAMA_WHEEL=wheels/runtime.whl")
    assert "wheels/runtime.whl" in plan
    assert "CMAKE_ARGS" not in plan


def test_one_llama_cpp_is_pinned_everywhere():
    pin = (ROOT / "serve/runtime/llama-cpp-python.txt").read_text()
    version, digest = re.search(r"llama-cpp-python==(\S+) --hash=sha256:(\w+)", pin).groups()
    quantize = "".join(path.read_text() for path in (ROOT / "quantize").rglob("*.py"))
    assert digest in quantize
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r"llama-cpp-python==([\d.]+)", pyproject)) == {version}


def test_readme_is_short_and_names_every_stage():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    text = "\n".join(lines)
    for stage in ("finetune/", "quantize/", "serve/", "clients/"):
        assert stage in text
