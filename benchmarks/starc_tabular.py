"""STARC on random worlds: plaudit's batched distance against careful float64 NumPy, world by world.

Both compute VAL with L2 norm and metric between two rewards on each of N worlds (32 states, 4 actions, discount
0.95). The NumPy version solves the same linear equations with arrays over states, as one would write it for one
world; the loops are over worlds alone. Run: python benchmarks/starc_tabular.py [N]
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from plaudit.auditing.distances.tabular import starc
from plaudit.tasks.tabular import random_mdp

STATES, ACTIONS, DISCOUNT = 32, 4, 0.95


def canonical(reward: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """VAL of one reward, divided by its norm."""
    expected = np.einsum("sat,sat->sa", transition, reward)
    chain = transition.mean(1)
    value = np.linalg.solve(np.eye(STATES) - DISCOUNT * chain, expected.mean(1))
    form = expected + DISCOUNT * transition @ value - value[:, None]
    full = np.broadcast_to(form[:, :, None], reward.shape)
    return full / np.linalg.norm(full)


def main() -> None:
    worlds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    torch.set_num_threads(1)
    mdp = random_mdp(states=STATES, actions=ACTIONS, discount=DISCOUNT, batch=(worlds,), seed=0)
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randn((2, worlds, 1, STATES, ACTIONS, STATES), generator=generator, dtype=torch.float64)
    starc(rewards[0][:2], random_mdp(states=STATES, actions=ACTIONS, batch=(2,)), to=rewards[1][:2])
    ours_s, loop_s = [], []
    for _ in range(3):
        start = time.perf_counter()
        ours = starc(rewards[0], mdp, to=rewards[1])[:, 0].numpy()
        ours_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        tau, pair = mdp.transition.numpy(), rewards[:, :, 0].numpy()
        loop = np.array([np.linalg.norm(canonical(pair[0, m], tau[m]) - canonical(pair[1, m], tau[m]))
                         for m in range(worlds)])
        loop_s.append(time.perf_counter() - start)
    assert np.abs(ours - loop).max() < 1e-9
    worst = np.abs(ours - loop).max()
    print(f"{worlds} worlds, two rewards each, one thread, best of 3; largest difference {worst:.1e}")
    print(f"plaudit {min(ours_s):.3f} s, NumPy loop {min(loop_s):.3f} s, ratio {min(loop_s) / min(ours_s):.2f}")


if __name__ == "__main__":
    main()
