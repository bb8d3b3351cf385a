"""The rules of who may import whom, read from the source instead of from good intentions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
STAGES = ("finetune", "quantize", "serve", "clients")
HEAVY = {
    "torch",
    "transformers",
    "unsloth",
    "trl",
    "peft",
    "datasets",
    "llama_cpp",
    "matplotlib",
}
ROOMS = {  # each may import those before it
    "serve": ("serve.engine", "serve.chat", "serve.api"),
    "quantize": tuple(
        f"quantize.{room}"
        for room in (
            "llama",
            "convert",
            "imatrix",
            "budget",
            "verify",
            "measure",
            "report",
            "lab",
        )
    ),
}


def modules(stage: str) -> list[Path]:
    return sorted((REPOSITORY / stage).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, path: Path) -> set[str]:
    """Every module named by an import statement anywhere below `tree`."""
    package = path.relative_to(REPOSITORY).parent.parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def runs_on_import(tree: ast.Module) -> list[ast.stmt]:
    """The statements that a plain import executes: no functions, nothing for type checkers."""
    found: list[ast.stmt] = []
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        found.append(node)
        waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
    return found


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage):
    others = [other for other in STAGES if other != stage]
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in modules(stage)
        for name in imported(parse(path), path)
        if any(is_in(name, other) for other in others)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("stage", "room", "above"),
    [
        (stage, room, rooms[number + 1 :])
        for stage, rooms in ROOMS.items()
        for number, room in enumerate(rooms[:-1])
    ],
)
def test_the_rooms_of_a_stage_never_import_back(stage, room, above):
    wrong = [
        f"{module_name(path)}: {name}"
        for path in modules(stage)
        if is_in(module_name(path), room)
        for name in imported(parse(path), path)
        if any(is_in(name, upper) for upper in above)
    ]
    assert wrong == []


def test_llama_cpp_is_imported_only_inside_the_engine():
    wrong = [
        module_name(path)
        for path in modules("serve")
        if not is_in(module_name(path), "serve.engine")
        if any(is_in(name, "llama_cpp") for name in imported(parse(path), path))
    ]
    assert wrong == []


@pytest.mark.parametrize("stage", STAGES)
def test_entry_points_and_configs_import_heavy_libraries_only_when_used(stage):
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in modules(stage)
        if path.stem in {"__main__", "config", "edgesmith"}
        for statement in runs_on_import(parse(path))
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for name in imported(statement, path)
        if name.partition(".")[0] in HEAVY
    ]
    assert wrong == []


@pytest.mark.parametrize("stage", STAGES)
def test_help_needs_no_heavy_library(stage):
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['{stage}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{stage}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"loaded = sorted({HEAVY!r} & set(sys.modules))\n"
        "print(loaded, file=sys.stderr)\n"
        "raise SystemExit(1 if loaded else 0)\n"
    )
    if not (REPOSITORY / stage / "__main__.py").is_file():
        pytest.fail(f"{stage} has no __main__.py, so `python -m {stage}` cannot run")
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from . import b", {"serve.api", "serve.api.b"}),
        ("from ..chat import tools", {"serve.chat", "serve.chat.tools"}),
        ("import serve.engine.model as m", {"serve.engine.model"}),
        ("def f():\n    from torch import nn", {"torch", "torch.nn"}),
    ],
)
def test_the_reader_of_imports_sees_every_form(source, expected):
    path = REPOSITORY / "serve" / "api" / "a.py"
    assert imported(ast.parse(source), path) == expected


def test_the_reader_of_top_level_imports_skips_functions_and_type_checking():
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nimport a\nif TYPE_CHECKING:\n    import b\n"
        "def f():\n    import c\ntry:\n    import d\nexcept ImportError:\n    pass\n"
    )
    path = REPOSITORY / "serve" / "x.py"
    names = set().union(
        *(imported(s, path) for s in runs_on_import(tree) if isinstance(s, ast.Import))
    )
    assert names == {"a", "d"}
