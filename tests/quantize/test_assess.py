"""A run is judged on its own held-out examples; on named ones only where it has none."""

import pytest

from quantize.assess import _examples
from quantize.config import MeasureConfig
from quantize.errors import RunError


def test_named_examples_stand_in_where_a_run_has_none(tmp_path):
    named = tmp_path / "mine.jsonl"
    config = MeasureConfig(examples=str(named))
    with pytest.raises(RunError, match=r"measure.examples: no such file .*mine.jsonl"):
        _examples(tmp_path, config)
    named.touch()
    assert _examples(tmp_path, config) == named
    assert _examples(tmp_path, MeasureConfig()) is None
    (tmp_path / "heldout.jsonl").touch()
    assert _examples(tmp_path, config) == tmp_path / "heldout.jsonl"
