"""The variable-length kernel equals attention example by example. Needs a GPU."""

import pytest

from finetune.packed_attention import TOLERANCE, enable_packed_attention, largest_difference

torch = pytest.importorskip("torch")


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU, and packed rows are trained on one only")


def test_packed_rows_get_one_kernel_that_agrees_with_plain_attention(gpu):
    from unsloth.utils import attention_dispatch

    assert enable_packed_attention()
    assert largest_difference(attention_dispatch._LeanFlashVarlen.apply) < TOLERANCE


def test_a_kernel_that_sees_across_examples_is_found_out(gpu):
    def one_example(query, key, value, ends, longest, *rest):
        whole = torch.tensor([0, len(query)], device="cuda", dtype=torch.int32)
        from unsloth.utils.attention_dispatch import _LeanFlashVarlen

        return _LeanFlashVarlen.apply(query, key, value, whole, len(query), *rest)

    assert largest_difference(one_example) > TOLERANCE
