"""Stable-baselines3's PPO on CartPole-v1 with 8 environments: its speed, and its time to a mean return of 475.

    python benchmarks/peers/ppo_cartpole_sb3.py --seed 0 --lr 1e-3 --rollout 32 --epochs 20    # the time to 475

*speed*: 128 steps, batches of 256, 4 epochs, 64-64 tanh networks (its default), learning included.
*solve*: until the mean return of the last 100 episodes is 475. The options above are those of rl-baselines3-zoo; so is
all that is not an option, but for the rates, which stay as they begin.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

SPEED = {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01}
SOLVE = {"batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "ent_coef": 0.0, "clip_range": 0.2}
LIMIT = 300_000


class Until(BaseCallback):
    """Stops when the last 100 episodes earned 475 on average."""

    def __init__(self) -> None:
        super().__init__()
        self.hit: int | None = None

    def _on_step(self) -> bool:
        last = self.model.ep_info_buffer
        if last is not None and len(last) >= 100 and np.mean([e["r"] for e in last]) >= 475:
            self.hit = self.num_timesteps
        return self.hit is None


def agent(seed: int, settings: dict[str, Any]) -> PPO:
    return PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=seed), seed=seed, device="cpu", **settings)


def speed(steps: int, seed: int) -> tuple[float, float]:
    """Steps for each second of CPU time and of the wall clock; making the agent does not count."""
    model = agent(seed, SPEED)
    cpu, wall = time.process_time(), time.perf_counter()
    model.learn(steps)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return model.num_timesteps / cpu, model.num_timesteps / wall


def solve(seed: int, *, lr: float, rollout: int, epochs: int) -> dict[str, Any]:
    """The seconds to the goal; making the agent counts."""
    settings = {**SOLVE, "learning_rate": lr, "n_steps": rollout, "n_epochs": epochs}
    cpu, wall = time.process_time(), time.perf_counter()
    until = Until()
    agent(seed, settings).learn(LIMIT, callback=until)
    return {"seed": seed, "steps": until.hit, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rollout", type=int, default=32, help="steps of each of the 8 environments")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(solve(options.seed, lr=options.lr, rollout=options.rollout, epochs=options.epochs)))
