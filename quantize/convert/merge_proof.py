"""Prove that a merged folder is base + adapter and nothing else; written apart from the merge.

For every target tensor the exact sum is made again in float64 and each stored value must lie
within half a unit in the last place of its 16-bit type, plus the float32 rounding of the sum:

    |merged - (base + s B A)|  <=  ulp16 / 2  +  2^-20 (|base| + s |B| |A|)

With DoRA the exact sum is what its rows are scaled from, in float64 too. A tensor or row that the
adapter replaces must be the adapter's, and every other one the base's, bit for bit after the cast.
"""

from pathlib import Path
from typing import Any

import msgspec

from quantize.convert.adapter import Adapter, LoraPair
from quantize.convert.merge import product, read_tensor, shard_names
from quantize.errors import VerificationError

_FLOAT32_SLACK = 2.0**-20
_MANTISSA_BITS = {"float16": 10, "bfloat16": 7}
_SMALLEST_EXPONENT = {"float16": -14, "bfloat16": -126}


class MergeProof(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the figures of a proven merge."""

    num_changed_tensors: int
    num_unchanged_tensors: int
    max_abs_deviation: float
    """Largest |merged - exact sum| over all target weights."""
    max_deviation_ulp: float
    """The same in units of the last place; at most 0.5 and a little."""
    delta_norm: float
    retained_delta_share: float
    """|merged - base| over |s B A|: what 16-bit rounding left of the change."""


class _Tally:
    """Collect maxima and norms over the tensors."""

    def __init__(self) -> None:
        self.changed = self.unchanged = 0
        self.deviation = self.deviation_ulp = 0.0
        self.delta_square = self.kept_square = 0.0


def prove(base: Path, adapter: Adapter, merged: Path) -> MergeProof:
    """Check every tensor of a merged folder.

    Raises:
        VerificationError: naming hop, tensor and the first difference.
    """
    from safetensors import safe_open

    tally, names = _Tally(), shard_names(base)
    if shard_names(merged) != names:
        raise VerificationError("hop base+adapter -> merged: the tensors are not the base's")
    with safe_open(adapter.weights, framework="pt") as lora:
        for shard, tensors in names.items():
            for name in tensors:
                both = read_tensor(base / shard, name), read_tensor(merged / shard, name)
                _require_change(lora, adapter, name, both, tally)
    if tally.changed == 0:
        raise VerificationError(
            "hop base+adapter -> merged: no weight changed; the adapter is zero or its change is "
            "below the 16-bit resolution of the base"
        )
    return MergeProof(
        num_changed_tensors=tally.changed,
        num_unchanged_tensors=tally.unchanged,
        max_abs_deviation=tally.deviation,
        max_deviation_ulp=tally.deviation_ulp,
        delta_norm=tally.delta_square**0.5,
        retained_delta_share=(tally.kept_square / (tally.delta_square or 1.0)) ** 0.5,
    )


def _require_change(
    lora: Any, adapter: Adapter, name: str, both: tuple[Any, Any], tally: _Tally
) -> None:
    old, new = both
    pair = adapter.pairs.get(name)
    if pair is not None:
        delta, magnitude = _exact(lora, pair)
        if pair.magnitude_name is not None:
            delta, magnitude = _rescaled(lora, pair.magnitude_name, old, delta, magnitude)
        _require_sum(name, old, new, (delta, magnitude), tally)
    elif name in adapter.replaced:
        _require_replaced(name, old, lora.get_tensor(adapter.replaced[name]), new, tally)
    elif name in adapter.rows:
        change, wanted = adapter.rows[name], old.clone()
        wanted = wanted.to(lora.get_tensor(change.name).dtype)
        wanted[list(change.token_ids)] = lora.get_tensor(change.name)
        _require_replaced(name, old, wanted, new, tally)
    else:
        _require_same(name, old, new, tally)


def _require_replaced(name: str, old: Any, wanted: Any, new: Any, tally: _Tally) -> None:
    import torch

    if not torch.equal(wanted.to(new.dtype), new):
        raise VerificationError(f"hop base+adapter -> merged: {name} is not what was trained")
    tally.changed += int(not torch.equal(old.to(new.dtype), new))


def _rescaled(lora: Any, name: str, old: Any, delta: Any, magnitude: Any) -> tuple[Any, Any]:
    """Return the change with DoRA's row lengths, and the magnitudes behind it."""
    import torch

    summed = old.to(torch.float64) + delta
    factor = (lora.get_tensor(name).to(torch.float64) / summed.norm(dim=1)).unsqueeze(1)
    grown = factor.abs() * (old.to(torch.float64).abs() + magnitude)
    return factor * summed - old.to(torch.float64), grown


def _exact(lora: Any, pair: LoraPair) -> tuple[Any, Any]:
    """Return the change in float64, and the sum of the magnitudes behind it."""
    import torch

    a_half = lora.get_tensor(pair.a_name).to(torch.float64).abs()
    b_half = lora.get_tensor(pair.b_name).to(torch.float64).abs()
    return product(lora, pair, torch.float64), abs(pair.scale) * (b_half @ a_half)


def _require_same(name: str, old: Any, new: Any, tally: _Tally) -> None:
    import torch

    tally.unchanged += 1
    if not torch.equal(old.to(new.dtype), new):
        raise VerificationError(
            f"hop base+adapter -> merged: {name} is no target of the adapter but changed"
        )


def _require_sum(name: str, old: Any, new: Any, exact: tuple[Any, Any], tally: _Tally) -> None:
    import torch

    delta, magnitude = exact
    wanted = old.to(torch.float64) + delta
    deviation = (new.to(torch.float64) - wanted).abs()
    ulp = _ulp(wanted, str(new.dtype).removeprefix("torch."))
    allowed = ulp / 2 + _FLOAT32_SLACK * (old.to(torch.float64).abs() + magnitude)
    if bool((deviation > allowed).any()):
        place = int((deviation - allowed).argmax())
        raise VerificationError(
            f"hop base+adapter -> merged: {name}[{place}] is {float(new.flatten()[place]):.8g}, "
            f"base + adapter is {float(wanted.flatten()[place]):.8g}, "
            f"allowed difference {float(allowed.flatten()[place]):.2g}"
        )
    kept = new.to(torch.float64) - old.to(torch.float64)
    tally.changed += int(bool((kept != 0).any()))
    tally.deviation = max(tally.deviation, float(deviation.max()))
    tally.deviation_ulp = max(tally.deviation_ulp, float((deviation / ulp).max()))
    tally.delta_square += float((delta**2).sum())
    tally.kept_square += float((kept**2).sum())


def _ulp(values: Any, dtype: str) -> Any:
    """Return the spacing of the 16-bit type at each value, in float64."""
    import torch

    _, exponent = torch.frexp(values.abs())
    exponent = (exponent - 1).clamp(min=_SMALLEST_EXPONENT[dtype])
    return torch.ldexp(torch.ones_like(values), exponent - _MANTISSA_BITS[dtype])
