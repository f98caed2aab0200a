"""How many steps a second does a population of PPO agents make on a GPU, beside this machine's CPU?

    python benchmarks/population_devices.py [--device cuda] [--populations 16 256 4096] [--updates 10]

CartPole-v1 with 8 environments of 128 steps for each agent, 4 epochs of minibatches of 256, 64-64 networks, learning
included. On the device the population is the batch of every operation; on the CPU the agents of the smallest
population share one thread, each side with the engine that `auto` would choose for a long run. The first update,
which warms up, is not timed. Each pair of runs is made three times; a row has the ratio of steps a second with its
interval, for `ppo_cartpole_<device>_<agents>`. Where there is no such device nothing is measured, and the rows of
`results/population_devices.json` stay as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.checkpoint import write_text
from plaudit.core.devices import best_device, check_device
from plaudit.core.provenance import machine
from plaudit.core.statistics import mean_interval
from plaudit.optimize import Callback, PPOConfig, train
from plaudit.optimize.rl.trainer import Trainer

RESULTS = Path(__file__).parent / "results" / "population_devices.json"
REPEATS = 3


class Clock(Callback):
    """The wall seconds after the first update, once the device has done what it was told."""

    def __init__(self, device: str) -> None:
        self.device, self.began, self.took = torch.device(device), 0.0, 0.0

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if not self.began:
            self.began = time.perf_counter()
        self.took = time.perf_counter() - self.began
        return None


def speed(population: int, device: str, updates: int) -> float:
    """Environment steps of all agents a second."""
    config = PPOConfig(num_envs=8, rollout=128, epochs=4, minibatches=4, hidden=(64, 64),
                       engine="fused" if device == "cpu" else "torch")
    clock, size = Clock(device), config.num_envs * config.rollout
    train("ppo", "CartPole-v1", population=population, steps=(updates + 1) * size, config=config, device=device,
          callbacks=[clock], progress=False)
    return population * updates * size / clock.took


def measured(device: str, populations: list[int], updates: int) -> list[dict[str, Any]]:
    """One row for each population."""
    rows = []
    for population in populations:
        pairs = []
        for _ in range(REPEATS):
            pairs.append((speed(population, device, updates), speed(min(populations), "cpu", updates)))
            print(f"{population} agents: {pairs[-1][0]:,.0f} steps/s on {device}, {pairs[-1][1]:,.0f} on one core",
                  flush=True)
        ours, peer = np.array(pairs).T
        ratio = mean_interval(ours / peer)
        rows.append({"name": f"ppo_cartpole_{torch.device(device).type}_{population}", "ratio": round(ratio.mean, 2),
                     "ours": round(float(ours.mean())), "peer": round(float(peer.mean())),
                     "unit": f"environment steps/s, peer: {min(populations)} agents on one core of the CPU",
                     "interval": [round(ratio.low, 2), round(ratio.high, 2)], "machine": machine(),
                     "updates": updates})
    return rows


def main() -> None:
    """Measures, and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--populations", type=int, nargs="+", default=[16, 256, 4096])
    parser.add_argument("--updates", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.device == "cpu":
        print("no GPU here, nothing is measured")
        return
    rows = measured(check_device(options.device), options.populations, options.updates)
    write_text(RESULTS, json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
