"""Training in several processes (torchrun, accelerate launch): all compute, the first one writes, the others wait."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from plaudit.core.extras import require


def processes() -> int:
    """How many processes train together; 1 where nothing launched several.

    Example:
        >>> processes()
        1
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def join() -> None:
    """Meets the other processes, each on a device of its own; nothing where there are none."""
    if processes() > 1:
        require("accelerate", extra="text").PartialState(cpu=not torch.cuda.is_available())


def wait() -> None:
    """Until all processes are here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def by_one(write: Callable[[], object]) -> None:
    """Calls `write` in the first process; the others go on when it has."""
    if is_first():
        write()
    wait()
