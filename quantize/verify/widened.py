"""Compute in float32 with weights that stay 16-bit and mapped, one layer widened at a time.

    layer i:  mapped weights ──float()──▶ private copy ──forward──▶ copy dropped, pages given back

Knows modules and memory, nothing of tokens. Widening is exact, so the numbers are those of a model
held in float32 as a whole.
"""

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_MAPS = Path("/proc/self/maps")
_MADV_DONTNEED = 4  # Source: madvise(2) of Linux, the same on all its processors
_SLICE_ROWS = 16384
"""Rows of an output layer that are widened at once."""


def widen(model: Any, folder: Path) -> None:
    """Have a model loaded from a folder in its own type compute in float32."""
    import torch

    _widen_buffers(model)
    release = _releaser(folder)
    inside, room = set(), Room()
    for block in _blocks(model):
        inside.update(block.modules())
        _hook(block, list(block.modules()), room, release)
    for module in model.modules():
        if module in inside or not module._parameters:  # noqa: SLF001  # direct ones only
            continue
        if type(module) is torch.nn.Embedding:  # a subclass may compute with its weight's type
            module.register_forward_hook(lambda _module, _args, rows: rows.float())
        elif type(module) is torch.nn.Linear:
            module.forward = functools.partial(_in_slices, module, release)
        else:
            _hook(module, [module], Room(), release)


def _widen_buffers(model: Any) -> None:
    """Compute the buffers again that a model in a 16-bit type rounds, an embedding's scale say."""
    for module in model.modules():
        rounded = {
            name: buffer
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.is_floating_point() and buffer.element_size() < 4
        }
        for name, buffer in rounded.items():
            wide = buffer.float()
            wide._is_hf_initialized = getattr(  # noqa: SLF001  # its mark of what was loaded
                buffer, "_is_hf_initialized", False
            )
            module._buffers[name] = wide  # noqa: SLF001  # the setter refuses another type
        if rounded:
            model._init_weights(module)  # noqa: SLF001  # leaves alone what was loaded


def _blocks(module: Any) -> Iterator[Any]:
    """Yield the layers: the members of the outermost lists."""
    import torch

    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


class Room:
    """Hold memory for one layer's weights; fresh memory for each would be cleared first."""

    def __init__(self) -> None:
        self._taken: dict[tuple[int, tuple[int, ...]], Any] = {}

    def wide(self, place: int, weight: Any) -> Any:
        """Return a float32 copy of the layer's weight number `place`, good until the next layer."""
        import torch

        key = (place, tuple(weight.shape))
        if key not in self._taken:
            self._taken[key] = torch.empty(weight.shape, dtype=torch.float32)
        return torch.nn.Parameter(self._taken[key].copy_(weight), requires_grad=False)


def _hook(module: Any, parts: list[Any], room: Room, release: Callable[[], None]) -> None:
    """Widen the parameters of some parts of a module while it computes."""
    kept: list[tuple[dict[str, Any], str, Any]] = []

    def before(_module: Any, _args: Any) -> None:
        for part in parts:
            own = part._parameters  # noqa: SLF001  # by the setter each would be registered anew
            for name, weight in own.items():
                if weight is not None and weight.is_floating_point():
                    own[name] = room.wide(len(kept), weight)
                    kept.append((own, name, weight))

    def after(_module: Any, _args: Any, _output: Any) -> None:
        for own, name, weight in kept:
            own[name] = weight
        kept.clear()
        release()

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)


def _in_slices(module: Any, release: Callable[[], None], rows: Any) -> Any:
    """Apply a linear layer, some of its rows at a time."""
    import torch

    parts = [
        torch.nn.functional.linear(rows, part.float()) for part in module.weight.split(_SLICE_ROWS)
    ]
    release()
    whole = torch.cat(parts, dim=-1)
    return whole if module.bias is None else whole + module.bias.float()


def _releaser(folder: Path) -> Callable[[], None]:
    """Return what takes the mapped pages of a folder's weights out of this process's memory.

    They stay in the system's cache and are clean, so that reading them again costs a page fault.
    """
    ranges = list(_mapped(folder)) if sys.platform == "linux" else []
    if not ranges:
        return lambda: None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def release() -> None:
        for start, length in ranges:
            madvise(start, length, _MADV_DONTNEED)

    return release


def _mapped(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield (address, bytes) of each mapping of a folder's weight files."""
    files = {str(path.resolve()) for path in folder.glob("*.safetensors")}
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] in files:
            start, _, end = fields[0].partition("-")
            yield int(start, 16), int(end, 16) - int(start, 16)
