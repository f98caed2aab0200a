"""`plaudit` under FSDP on CPUs: accelerate shards over gloo as over NCCL once it takes the CPUs for accelerators.

    torchrun --nproc_per_node 2 tests/learn/text/sharded.py [--die-at STEP] learn text ... --arguments '{"fsdp": true}'
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

from plaudit.cli.main import main
from plaudit.learn.text import trainer, training


def taken_for_accelerators() -> None:
    """Has accelerate shard on CPUs, and plaudit let it."""
    start, check = state.PartialState.__init__, training.check_sharding

    def init(self: Any, *args: Any, **options: Any) -> None:
        fresh = not self.initialized
        start(self, *args, **options)
        if fresh and self.num_processes > 1:
            self.distributed_type = DistributedType.MULTI_GPU

    def checked(arguments: Mapping[str, Any], other: Mapping[str, object], *, accelerators: bool) -> None:
        check(arguments, other, accelerators=True)

    state.PartialState.__init__, training.check_sharding = init, checked


def dies_at(step: int) -> None:
    """Ends the process after a step, as a kill would."""
    made = trainer._callback

    def callback() -> Any:
        class Dies(made()):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                if state.global_step == step:
                    os._exit(9)
        return Dies

    trainer._callback = callback


if __name__ == "__main__":
    words = sys.argv[1:]
    taken_for_accelerators()
    if words[0] == "--die-at":
        dies_at(int(words[1]))
        words = words[2:]
    sys.exit(main(words))
