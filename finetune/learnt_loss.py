"""The output layer computed for learnt tokens only.

    hidden states  | prompt (no loss) |  answer  | padding |
    output layer   |       skipped    | computed | skipped |

The output layer of a 1B model with a large vocabulary is a fifth of a step's arithmetic, and of
instruction data only about half the tokens carry loss. Loss and gradients are the same. Knows the
loss function Unsloth calls, no model and no trainer.
"""

from collections.abc import Callable
from typing import Any, cast

from finetune.data.tokens import IGNORED

MULTIPLE = 1_024  # counts are rounded up, so that kernels see few different lengths


def enable_learnt_loss() -> None:
    """Let Unsloth's models compute their loss this way; call it after `import unsloth`."""
    from unsloth.models import llama

    if not hasattr(llama.unsloth_fused_ce_loss, "plain"):
        llama.unsloth_fused_ce_loss = learnt_only(llama.unsloth_fused_ce_loss)


def learnt_only(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a fused output-layer loss that takes `hidden_states (1, tokens, hidden)` and labels.

    Several rows at once, or labels that are shifted already, go to `plain` as they are.
    """
    import torch

    def loss(*, hidden_states: Any, labels: Any, shift_labels: bool = True, **rest: Any) -> Any:
        if not shift_labels or hidden_states.shape[0] != 1:
            return plain(
                hidden_states=hidden_states, labels=labels, shift_labels=shift_labels, **rest
            )
        targets = labels[0, 1:]
        where = (targets != IGNORED).nonzero().squeeze(1)
        padding = -len(where) % MULTIPLE
        picked = torch.nn.functional.pad(targets[where], (0, padding), value=IGNORED)
        where = torch.nn.functional.pad(where, (0, padding))
        hidden = hidden_states[0].index_select(0, where.to(hidden_states.device))
        return plain(hidden_states=hidden[None], labels=picked[None], shift_labels=False, **rest)

    wrapped: Any = torch.compiler.disable(loss)
    wrapped.plain = plain
    return cast("Callable[..., Any]", wrapped)
