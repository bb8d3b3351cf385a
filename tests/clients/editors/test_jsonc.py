"""Settings files keep every byte that was not asked to change."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.editors import jsonc
from clients.editors.paths import Item

SETTINGS = """\
// Mine. "a": 1
{
    "theme": "One, // Dark", /* not
    a comment's end: */
    "list": [1, 2,],
    "nested": {
        // kept
        "deep": true,
    },
}
// the end
"""


def test_a_new_key_joins_the_others_and_nothing_else_moves():
    changed = jsonc.put(SETTINGS, ("nested", "new"), {"a": 1})
    added = ',\n        "new": {\n          "a": 1\n        }'
    assert changed == SETTINGS.replace('"deep": true', f'"deep": true{added}')
    assert jsonc.load(changed)["nested"] == {"deep": True, "new": {"a": 1}}


def test_what_is_there_is_replaced_in_its_place():
    changed = jsonc.put(SETTINGS, ("theme",), "Plain")
    assert changed == SETTINGS.replace('"One, // Dark"', '"Plain"')
    assert jsonc.put(changed, ("theme",), "Plain") == changed


def test_missing_parents_are_made():
    assert jsonc.load(jsonc.put("", ("a", "b", "c"), 1)) == {"a": {"b": {"c": 1}}}
    assert jsonc.put("{}", ("a",), 1) == '{\n  "a": 1\n}'
    with_comment = jsonc.put("{\n  // only this\n}\n", ("a",), 1)
    assert jsonc.load(with_comment) == {"a": 1}
    assert "// only this" in with_comment


def test_a_member_of_a_list_is_known_by_its_name():
    path = (Item("name", "x"),)
    one = jsonc.put('[{"name": "y"}]', path, {"name": "x", "v": 1})
    two = jsonc.put(one, path, {"name": "x", "v": 2})
    assert jsonc.load(two) == [{"name": "y"}, {"name": "x", "v": 2}]
    assert jsonc.load(jsonc.put("", path, {"name": "x"})) == [{"name": "x"}]


@pytest.mark.parametrize(
    "text", ["{", '{"a" 1}', "{'a': 1}", '{"a": 1 "b": 2}', "{} x", '{"a": yes}', '{"a": "x}']
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        jsonc.put(text, ("a",), 1)


def test_a_scalar_in_the_way_is_not_overwritten():
    with pytest.raises(ValueError, match="where 'b' should go"):
        jsonc.put('{"a": 1}', ("a", "b"), 1)


KEYS = st.text(max_size=4)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(
    tree=st.dictionaries(KEYS, TREES, max_size=4),
    key=KEYS,
    value=TREES,
    indent=st.sampled_from([None, 2, "\t"]),
)
def test_any_document_gets_the_value_and_keeps_the_rest(tree, key, value, indent):
    text = json.dumps(tree, indent=indent)
    assert jsonc.load(text) == tree
    assert json.loads(jsonc.put(text, (key,), value)) == tree | {key: value}
