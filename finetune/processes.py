"""Who this process is among those that torchrun or `accelerate launch` started.

Knows torch.distributed only. With one process everything here is free and does nothing.
"""

import os
import sys
from typing import TypeVar

T = TypeVar("T")


def num_processes() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes the run and speaks to the user."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """Tell the user something, once."""
    if is_main():
        print(text, file=sys.stderr)


def join_group() -> None:
    """Take this process's own GPU and meet the others; call it before anything uses the GPU."""
    if num_processes() == 1:
        return
    import torch
    from accelerate import PartialState

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    PartialState()


def from_main(value: T) -> T:
    """Return the main process's value in every process; it must be picklable."""
    if num_processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    box = [value]
    broadcast_object_list(box, from_process=0)
    return box[0]


def wait_for_all() -> None:
    """Return when every process has come here."""
    if num_processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
