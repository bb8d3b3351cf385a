"""Objects of a schema end, unless it says otherwise or nobody can tell."""

import pytest

from serve.chat.schema import closed, prepared

OPEN = {"type": "object", "properties": {"a": {}}}


def test_an_object_with_properties_is_closed_at_every_depth():
    schema = OPEN | {
        "properties": {"a": OPEN, "properties": {"type": "array", "items": OPEN}},
        "$defs": {"x": OPEN},
        "anyOf": [OPEN],
    }
    done = closed(schema)
    assert done["additionalProperties"] is False
    shut = OPEN | {"additionalProperties": False}
    assert done["properties"] == {"a": shut, "properties": {"type": "array", "items": shut}}
    assert done["$defs"] == {"x": shut}
    assert done["anyOf"] == [shut]


@pytest.mark.parametrize(
    "more",
    [
        {"additionalProperties": True},
        {"additionalProperties": {"type": "string"}},
        {"required": ["a", "unlisted"]},
        {"patternProperties": {"^x": {}}},
        {"allOf": [{"properties": {"b": {}}}]},
        {"$ref": "#/$defs/x"},
        {"required": 5},
    ],
)
def test_an_object_that_may_need_more_stays_open(more):
    assert closed(OPEN | more) == OPEN | more


def test_parts_of_an_all_of_stay_open():
    schema = {"allOf": [OPEN, OPEN]}
    assert closed(schema) == schema


def test_the_schema_itself_is_left_alone_and_its_own_options_win():
    schema = OPEN | {"x-guidance": {"lenient": False, "key_separator": ":"}}
    before = dict(schema)
    done = prepared(schema, strict=False, item_separator=", ")
    assert schema == before
    assert done["x-guidance"] == {
        "lenient": False,
        "item_separator": ", ",
        "key_separator": ":",
    }
