"""The type table follows the library, and bad names are refused before any work."""

import pytest

from quantize.errors import ConfigError
from quantize.llama.quant_types import name_of, resolve, table


def test_the_table_holds_the_librarys_types():
    known = table()
    assert {"f32", "f16", "bf16", "q8_0", "q4_k_m", "iq4_xs", "q4_0"} <= known.keys()
    assert known["q4_k_m"].ftype == 15
    assert name_of(15) == "q4_k_m"


def test_aliases_and_case_name_the_same_type_once():
    assert [entry.name for entry in resolve(["Q4_K", "q4_k_m", "F16"], has_imatrix=False)] == [
        "q4_k_m",
        "f16",
    ]


def test_an_unknown_type_is_refused_with_a_suggestion_and_the_list():
    with pytest.raises(ConfigError, match=r"'q4_k_n'; did you mean q4_k.*known: .*iq4_nl"):
        resolve(["q4_k_n"], has_imatrix=False)


def test_a_type_that_needs_an_imatrix_is_refused_early_where_there_is_none():
    with pytest.raises(ConfigError, match="iq2_xxs needs an importance matrix"):
        resolve(["f16", "iq2_xxs"], has_imatrix=False)
    assert [entry.name for entry in resolve(["iq2_xxs"], has_imatrix=True)] == ["iq2_xxs"]


def test_no_types_at_all_is_refused():
    with pytest.raises(ConfigError, match="no quant types"):
        resolve([], has_imatrix=False)
