import pytest

from clients.context.imports import imported_files


@pytest.fixture
def imported(tmp_path):
    """Return a function from files and one file's text to what it imports."""
    for name in ("shop/__init__.py", "shop/cart.py", "shop/tax/__init__.py", "shop/tax/rates.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")

    def run(text: str, file: str = "shop/main.py") -> dict[str, set[str]]:
        found = imported_files(tmp_path / file, text, tmp_path)
        return {each.path.relative_to(tmp_path).as_posix(): set(each.names) for each in found}

    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import shop.cart", {"shop/cart.py": set()}),
        ("from shop.cart import Cart, Item", {"shop/cart.py": {"Cart", "Item"}}),
        ("from shop import cart", {"shop/cart.py": set()}),
        ("from .cart import Cart", {"shop/cart.py": {"Cart"}}),
        ("from . import tax, VERSION", {"shop/tax/__init__.py": set()}),
        (
            "from .tax import rates, rate",
            {"shop/tax/rates.py": set(), "shop/tax/__init__.py": {"rate"}},
        ),
        ("from shop.cart import *", {"shop/cart.py": set()}),
        ("import json, os.path\nfrom numpy import array", {}),
        ("def f():\n    from shop.cart import Cart", {"shop/cart.py": {"Cart"}}),
        ("from shop.cart import A\nimport shop.cart", {"shop/cart.py": set()}),
    ],
)
def test_python_imports_lead_to_files_and_names(imported, text, expected):
    assert imported(text) == expected


def test_a_gap_that_does_not_parse_hides_no_import(imported):
    text = "import shop.tax.rates\nfrom shop.cart import (\n    Cart,\n    Item,\n)\nx = (\n"
    assert imported(text) == {"shop/tax/rates.py": set(), "shop/cart.py": {"Cart", "Item"}}


def test_a_file_does_not_import_itself_nor_what_lies_outside(imported, tmp_path):
    assert imported("import cart", "shop/cart.py") == {}
    inside = tmp_path / "shop" / "inside"
    inside.mkdir()
    (tmp_path / "shop" / "a.h").touch()
    assert imported_files(inside / "b.c", '#include "../a.h"\n', inside) == []


def test_scripts_and_c_are_followed_by_relative_paths(imported, tmp_path):
    for name in ("web/api.ts", "web/parts/index.js", "c/list.h"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    script = (
        "import { get } from './api'\nconst p = require('./parts')\nimport React from 'react'\n"
    )
    assert set(imported(script, "web/app.ts")) == {"web/api.ts", "web/parts/index.js"}
    assert set(imported('#include "list.h"\n#include <stdio.h>\n', "c/list.c")) == {"c/list.h"}


def test_other_languages_have_no_imports(imported):
    assert imported("import shop.cart", "notes.txt") == {}
