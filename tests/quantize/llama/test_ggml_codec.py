"""Rows go into a type and come back as another reader of ggml's types reads them."""

import gguf
import numpy as np
import pytest

from quantize.llama.ggml_codec import decode, encode, needs_importance, row_bytes

ROWS = np.random.default_rng(2).normal(size=(6, 256)).astype(np.float32)


@pytest.mark.parametrize("name", ["f16", "bf16", "q4_0", "q5_1", "q8_0", "q4_k", "q6_k", "iq4_xs"])
def test_a_type_is_read_as_the_gguf_package_reads_it(name):
    raw = encode(name, ROWS)
    kind = gguf.GGMLQuantizationType[name.upper()]
    width = row_bytes(name, 256)
    theirs = gguf.quants.dequantize(raw.reshape(6, width), kind)
    assert np.allclose(decode(name, raw, 256), theirs, atol=1e-6)


def test_float32_comes_back_as_it_was():
    assert np.array_equal(decode("f32", encode("f32", ROWS), 256), ROWS)


def test_more_bits_lose_less():
    lost = [
        float(np.square(ROWS - decode(name, encode(name, ROWS), 256)).sum())
        for name in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "f16")
    ]
    assert lost == sorted(lost, reverse=True)


def test_important_columns_are_kept_more_exactly():
    importance = np.where(np.arange(256) < 128, 100.0, 0.01).astype(np.float32)
    lost = np.square(ROWS - decode("q2_k", encode("q2_k", ROWS, importance), 256))
    plain = np.square(ROWS - decode("q2_k", encode("q2_k", ROWS), 256))
    assert lost[:, :128].sum() < plain[:, :128].sum()


def test_rows_that_are_no_whole_blocks_have_no_size():
    assert row_bytes("q4_k", 576) is None
    assert row_bytes("q4_0", 576) == 576 // 32 * 18
    assert row_bytes("no_type", 256) is None


def test_types_that_end_the_process_without_importances_are_known():
    assert needs_importance("iq2_xxs")
    assert not needs_importance("q4_k")
