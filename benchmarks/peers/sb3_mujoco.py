"""Stable-Baselines3's curves on HalfCheetah-v5 and Hopper-v5, recorded once: `../results/sb3_mujoco.json`.

    python benchmarks/peers/sb3_mujoco.py [--algo ppo|sac] [--env HalfCheetah-v5|Hopper-v5] [--seeds 0 1 2]

Its own defaults, which for these tasks are the papers' settings; PPO with the observations and rewards
standardised (VecNormalize), as its documentation advises. PPO makes 500,000 steps, SAC 100,000; seeds 0, 1, 2
unless others are named. Ten times, the last at the end, the deterministic policy plays 10 episodes whose seeds no
training saw. Each finished run is written at once, so that the script can be killed and goes on with the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

RESULTS = Path(__file__).parent.parent / "results" / "sb3_mujoco.json"
STEPS = {"ppo": 500_000, "sac": 100_000}
ENVS = ("HalfCheetah-v5", "Hopper-v5")
SEEDS = (0, 1, 2)
POINTS = 10
EPISODES = 10


class Curve(BaseCallback):
    """Plays the deterministic policy on fresh episodes at `POINTS` moments of the run."""

    def __init__(self, env: str, every: int) -> None:
        super().__init__()
        self.game, self.every = gym.make(env), every
        self.steps: list[int] = []
        self.returns: list[list[float]] = []
        self.evaluation_s = 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            start = time.perf_counter()
            self.steps.append(self.num_timesteps)
            self.returns.append([self.play(10_000 + e) for e in range(EPISODES)])
            self.evaluation_s += time.perf_counter() - start
        return True

    def play(self, seed: int) -> float:
        """The return of one episode."""
        normal = self.model.get_vec_normalize_env()
        obs, _ = self.game.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            seen = obs if normal is None else normal.normalize_obs(obs)
            action, _ = self.model.predict(seen, deterministic=True)
            obs, reward, terminated, truncated, _ = self.game.step(action)
            total, done = total + float(reward), terminated or truncated
        return total


def run(algo: str, env: str, seed: int) -> dict[str, Any]:
    """One curve."""
    vec: Any = DummyVecEnv([lambda: gym.make(env)])
    if algo == "ppo":
        vec = VecNormalize(vec)
    vec.seed(seed)
    kind = {"ppo": PPO, "sac": SAC}[algo]
    model = kind("MlpPolicy", vec, seed=seed, device="cpu")
    curve = Curve(env, STEPS[algo] // POINTS)
    start = time.process_time()
    model.learn(STEPS[algo], callback=curve)
    return {"algo": algo, "env": env, "seed": seed, "steps": curve.steps,
            "returns": [round(float(np.mean(r)), 1) for r in curve.returns],
            "cpu_s": round(time.process_time() - start, 1)}


def recorded() -> list[dict[str, Any]]:
    """The curves on disk."""
    return json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []


def main() -> None:
    """Runs what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", choices=tuple(STEPS))
    parser.add_argument("--env", choices=ENVS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for algo in STEPS if options.algo is None else (options.algo,):
        for env in ENVS if options.env is None else (options.env,):
            for seed in options.seeds:
                if any((r["algo"], r["env"], r["seed"]) == (algo, env, seed) for r in recorded()):
                    continue
                row = run(algo, env, seed)
                print(json.dumps(row), flush=True)
                rows = [*recorded(), row]
                versions = {"python": platform.python_version(), "torch": torch.__version__,
                            "gymnasium": gym.__version__, "stable-baselines3": stable_baselines3.__version__}
                text = json.dumps({"versions": versions, "episodes": EPISODES, "rows": rows}, indent=1)
                temporary = RESULTS.with_suffix(".tmp")
                temporary.write_text(text + "\n")
                os.replace(temporary, RESULTS)


if __name__ == "__main__":
    main()
