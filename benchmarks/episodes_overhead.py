"""Should `Episodes` be a plain frozen dataclass or tensordict's `tensorclass`? Measures what each costs.

    python benchmarks/episodes_overhead.py

One core, one thread, tensors on the CPU, eager: the overhead of the container, in microseconds a call
(the median of repeated timings), for the same fields in both. A ratio above 1 means that the plain
dataclass is faster. `Episodes` checks its fields at construction, and that is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensordict
import torch
from tensordict import TensorDict, tensorclass

from plaudit.core.episodes import Episodes

SIZES = [(B, T) for B in (1, 64, 1024) for T in (1, 100)]


@tensorclass
class StackedEpisodes:
    """The same fields as `Episodes`, as a tensorclass."""

    obs: torch.Tensor
    action: torch.Tensor
    next_obs: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    mask: torch.Tensor
    env_reward: torch.Tensor
    info: TensorDict
    member: torch.Tensor


def columns(B: int, T: int) -> dict[str, torch.Tensor]:
    """The tensors of a batch as a small control task has them."""
    no = torch.zeros(B, T, dtype=torch.bool)
    return {"obs": torch.randn(B, T, 4), "action": torch.randn(B, T, 2), "next_obs": torch.randn(B, T, 4),
            "terminated": no, "truncated": no.clone(), "mask": ~no, "env_reward": torch.randn(B, T)}


def ours(B: int, T: int) -> Callable[[], Episodes]:
    """Makes the dataclass from tensors that exist."""
    made, info, member = columns(B, T), {"reward_ctrl": torch.randn(B, T)}, torch.arange(B)
    return lambda: Episodes(**made, info=info, member=member)


def theirs(B: int, T: int) -> Callable[[], Any]:
    """Makes the tensorclass from tensors that exist."""
    made, info, member = columns(B, T), {"reward_ctrl": torch.randn(B, T)}, torch.arange(B)
    return lambda: StackedEpisodes(**made, info=TensorDict(info, batch_size=[B]), member=member, batch_size=[B])


def operations(make: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """What a learner does with a batch, many times a second."""
    batch = make()
    B = batch.terminated.shape[0]
    rows = torch.arange(0, B, 2)
    reward = batch.env_reward.clone()
    join = Episodes.cat if isinstance(batch, Episodes) else torch.cat
    return {
        "construct": make,
        "one row": lambda: batch[0:1],
        "half the rows": lambda: batch[rows],
        "to(cpu)": lambda: batch.to("cpu"),
        "cat of 4": lambda: join([batch] * 4),
        "replace": lambda: batch.replace(env_reward=reward),
        "read a field": lambda: batch.env_reward,
    }


def microseconds(call: Callable[[], Any], *, seconds: float) -> float:
    """The median time of a call."""
    timer = timeit.Timer(call)
    number, took = timer.autorange()
    number = max(1, int(number * seconds / 5 / max(took, 1e-9)))
    return statistics.median(timer.repeat(5, number)) / number * 1e6


def measure(*, seconds: float) -> list[dict[str, Any]]:
    """One record for each size and operation."""
    found = []
    for B, T in SIZES:
        pairs = zip(operations(ours(B, T)).items(), operations(theirs(B, T)).values(), strict=True)
        for (name, plain), stacked in pairs:
            a, b = microseconds(plain, seconds=seconds), microseconds(stacked, seconds=seconds)
            found.append({"B": B, "T": T, "operation": name, "dataclass_us": a, "tensorclass_us": b, "ratio": b / a})
    return found


def main() -> None:
    """Prints the table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time spent on each number")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = measure(seconds=options.seconds)
    print(f"torch {torch.__version__.split('+')[0]}, tensordict {tensordict.__version__}, "
          f"Python {platform.python_version()}; microseconds a call")
    print(f"{'B':>5} {'T':>4}  {'operation':<14} {'dataclass':>10} {'tensorclass':>12} {'ratio':>7}")
    for r in found:
        print(f"{r['B']:>5} {r['T']:>4}  {r['operation']:<14} {r['dataclass_us']:>10.1f} "
              f"{r['tensorclass_us']:>12.1f} {r['ratio']:>7.2f}")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
