"""One attention kernel for a whole packed row, where Unsloth alone would start one per example.

    row:      | example 1 | example 2 |   example 3   |
    unpatched   SDPA        SDPA        SDPA             forward, and select/slice in backward
    patched     one variable-length flash kernel

Unsloth has this kernel but takes it only with torch >= 2.12, whose `varlen_attn` says that it
accepts grouped heads. The kernel below it (`aten::_flash_attention_forward`) takes grouped heads in
torch 2.11 as well. Knows no model and no trainer.
"""

import sys
from typing import Any

TOLERANCE = 0.02  # bfloat16 keeps 8 bits: two correct kernels differ by less on unit normals
_LENGTHS = (5, 64, 33)
_HEADS, _KV_HEADS, _HEAD_SIZE = 8, 2, 64


def enable_packed_attention() -> bool:
    """Let Unsloth use its variable-length kernel; say whether packed rows get one.

    Call it after `import unsloth` and before training. The kernel is compared with plain attention,
    forward and backward, on this card first; where it disagrees or cannot run, nothing changes.
    """
    import torch
    from unsloth.utils import attention_dispatch as dispatch

    if not torch.cuda.is_available():
        return False
    if dispatch._TORCH_VARLEN_ATTN is not None:  # noqa: SLF001  # the switch Unsloth itself reads
        return True
    try:
        worst = largest_difference(dispatch._LeanFlashVarlen.apply)  # noqa: SLF001  # the kernel
    except (RuntimeError, AttributeError, TypeError) as error:
        print(f"packed rows get one attention call per example: {error}", file=sys.stderr)
        return False
    if worst > TOLERANCE:
        print(f"packed attention differs by {worst:.3f} here; not used", file=sys.stderr)
        return False
    dispatch._TORCH_VARLEN_ATTN = _outside_graphs(dispatch._LeanFlashVarlen)  # noqa: SLF001  # as above
    dispatch._LEAN_VARLEN = True  # noqa: SLF001  # as above
    dispatch._varlen_can_use_cudnn = _no_cudnn  # noqa: SLF001  # as above
    return True


def largest_difference(varlen: Any) -> float:
    """Return the largest difference between `varlen` and attention example by example.

    Output and the gradients of query, key and value of three causal examples with grouped heads,
    `(tokens, heads, head_size) bfloat16`, unit normal.
    """
    import torch

    torch_generator = torch.Generator("cuda").manual_seed(0)
    query, key, value = (
        torch.randn(
            (sum(_LENGTHS), heads, _HEAD_SIZE),
            generator=torch_generator,
            device="cuda",
            dtype=torch.bfloat16,
            requires_grad=True,
        )
        for heads in (_HEADS, _KV_HEADS, _KV_HEADS)
    )
    ends = torch.tensor((0, *_LENGTHS), device="cuda").cumsum(0, dtype=torch.int32)
    packed = varlen(query, key, value, ends, max(_LENGTHS), True, _HEAD_SIZE**-0.5, -1, 0)
    plain = torch.cat(
        [
            _plain_attention(query[a:b], key[a:b], value[a:b])
            for a, b in zip(ends.tolist(), ends.tolist()[1:], strict=False)
        ]
    )
    gradients = [
        torch.autograd.grad(out.float().square().sum(), (query, key, value), retain_graph=True)
        for out in (packed, plain)
    ]
    pairs = [(packed, plain), *zip(*gradients, strict=True)]
    return max(_relative(left, right) for left, right in pairs)


def _plain_attention(query: Any, key: Any, value: Any) -> Any:
    from torch.nn import functional

    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    out = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    return out[0].transpose(0, 1)


def _relative(left: Any, right: Any) -> float:
    """Return the distance of two tensors over the size of the second."""
    left, right = left.detach().float(), right.detach().float()
    return float((left - right).norm() / right.norm())


def _outside_graphs(kernel: Any) -> Any:
    """Return the kernel behind torch 2.12's signature, for callers inside a compiled graph."""
    import torch

    def varlen_attn(
        query: Any, key: Any, value: Any, ends: Any, _: Any, longest: int, *_rest: Any, **how: Any
    ) -> Any:
        left, right = how["window_size"]
        is_causal = (left, right) == (-1, 0)
        return kernel.apply(query, key, value, ends, longest, is_causal, how["scale"], left, right)

    return torch.compiler.disable(varlen_attn)


def _no_cudnn(*_: Any, **__: Any) -> bool:
    return False
