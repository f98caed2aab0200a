"""Are the learners right, and how fast are they? Writes `results/learners.json`.

    python benchmarks/learners.py [--only right|speed]

*right*: over 100 evaluation episodes of each of 8 seeds, trained side by side as one population: the mean return of
every seed (the lowest must reach the floor), and the mean over seeds with its interval.
*speed*: PPO on CartPole-v1 with 8 environments of 128 steps, 4 epochs of 4 minibatches, learning included, for
populations of 1 and 16 and both engines: environment steps of all agents for each second of the wall clock and of the
process's CPU time (compare the latter when other work shares the cores). One thread; compiled code is loaded before.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from plaudit.core.checkpoint import write_text
from plaudit.core.statistics import mean_interval
from plaudit.optimize import PPOConfig, SACConfig, train

RESULTS = Path(__file__).parent / "results" / "learners.json"
SEEDS = 8

RIGHT: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"algo": "ppo", "steps": 150_000, "floor": 475.0,
                    "config": PPOConfig(discount=0.98, gae_lambda=0.9)},
    "Pendulum-v1": {"algo": "sac", "steps": 20_000, "floor": -180.0,
                    "config": SACConfig(num_envs=4, update_ratio=0.5, hidden=(64, 64), batch=128, actor_lr=1e-3,
                                        critic_lr=1e-3, temperature_lr=1e-3)},
}


def right(env: str, *, seed: int = 0, episodes: int = 100) -> dict[str, Any]:
    """Trains 8 seeds and evaluates each."""
    plan = RIGHT[env]
    wall, cpu = time.perf_counter(), time.process_time()
    trained = train(plan["algo"], env, population=SEEDS, steps=plan["steps"], seed=seed, progress=False,
                    config=plan["config"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    means = trained.evaluate(episodes=episodes, seed=seed + 1).double().mean(-1)
    interval = mean_interval(means.numpy())
    return {"kind": "right", "algo": plan["algo"], "env": env, "steps": trained.steps, "episodes": episodes,
            "floor": plan["floor"], "passed": bool(means.min() >= plan["floor"]),
            "means": [round(x, 1) for x in means.tolist()], "lowest": round(float(means.min()), 1),
            "mean": round(interval.mean, 1), "low": round(interval.low, 1), "high": round(interval.high, 1),
            "wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "config": dataclasses.asdict(plan["config"])}


def speed(population: int, engine: Any, *, updates: int = 40) -> dict[str, Any]:
    """Steps of all agents for each second, the first update (which warms caches) included."""
    config = PPOConfig(num_envs=8, rollout=128, epochs=4, minibatches=4, engine=engine)
    steps = updates * config.num_envs * config.rollout
    if engine == "fused":
        train("ppo", "CartPole-v1", steps=config.num_envs * config.rollout, progress=False, config=config)
    wall, cpu = time.perf_counter(), time.process_time()
    train("ppo", "CartPole-v1", population=population, steps=steps, progress=False, config=config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"kind": "speed", "algo": "ppo", "env": "CartPole-v1", "engine": engine, "population": population,
            "steps": steps, "steps_per_wall_s": round(population * steps / wall),
            "steps_per_cpu_s": round(population * steps / cpu)}


def rows(only: str | None) -> Iterator[dict[str, Any]]:
    """One row for each measurement."""
    if only != "right":
        yield from (speed(population, engine) for engine in ("fused", "torch") for population in (1, 16))
    if only != "speed":
        yield from (right(env) for env in RIGHT)


def main() -> None:
    """Prints a row at a time, and writes all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("right", "speed"), help="measure one kind; the other rows are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for row in rows(options.only):
        print(json.dumps(row), flush=True)
        found.append(row)
    old = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if options.only and RESULTS.exists() else []
    kept = [row for row in old if row["kind"] != options.only]
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version(),
               "torch": torch.__version__}
    write_text(RESULTS, json.dumps({"machine": machine, "rows": kept + found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
