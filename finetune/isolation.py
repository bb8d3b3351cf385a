"""Whether examples that share a packed row see each other, tried out on the model itself.

    row:    | other text | probe |      the probe's loss may not depend on the other text

Every family has an attention of its own here, and not each of them knows of packed rows. Knows no
trainer and no data.
"""

from contextlib import nullcontext
from typing import Any

from finetune.data.tokens import IGNORED
from finetune.libraries import half_precision

LENGTH = 64  # tokens of either part
TOLERANCE = 1e-3  # of the loss: the same kernels over the same shapes differ by far less


def keeps_examples_apart(model: Any) -> bool:
    """Tell whether a packed row gives an example the loss that it has beside any other one."""
    import torch

    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    narrow = torch.autocast("cuda", dtype=half_precision()) if on_gpu else nullcontext()
    with torch.no_grad(), narrow:
        first, second = (float(model(**_row(model, seed, device)).loss) for seed in (1, 2))
    return abs(first - second) <= TOLERANCE * abs(first)


def _row(model: Any, seed: int, device: Any) -> dict[str, Any]:
    """Return a row whose first half depends on the seed, as the trainer passes it on."""
    import torch

    def tokens(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, model.config.vocab_size, (LENGTH,), generator=generator)

    probe = tokens(0)
    unlearnt = torch.full((LENGTH + 1,), IGNORED)
    return {
        "input_ids": torch.cat([tokens(seed), probe])[None].to(device),
        "labels": torch.cat([unlearnt, probe[1:]])[None].to(device),
        "position_ids": (torch.arange(2 * LENGTH) % LENGTH)[None].to(device),
        "packed_seq_lengths": torch.tensor([LENGTH, LENGTH], dtype=torch.int32, device=device),
        "num_items_in_batch": LENGTH - 1,
        "use_cache": False,  # as TRL asks; with a cache transformers takes a row for one text
    }
