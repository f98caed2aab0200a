"""PPO and SAC on HalfCheetah-v5 and Hopper-v5, beside stable-baselines3's curves: `results/mujoco_learners.json`.

    python benchmarks/mujoco_learners.py --run [--algo ppo|sac] [--env HalfCheetah-v5|Hopper-v5] [--seeds 0 1 2]

The settings, the seeds and the evaluation are those of `peers/sb3_mujoco.py`, which recorded the peer's curves: PPO
makes 500,000 steps with observations and rewards standardised, SAC 100,000; the seeds (0, 1, 2 unless others are
named) are here one population; ten times the deterministic policy plays the episodes with the seeds 10000 to 10009. A
run is compared by the mean of its last three evaluations. `ratio` is our mean over all seeds that both sides have, 0,
1 and 2 among them, by the peer's; a seed says nothing about what the other side makes of it, so its interval (95%)
takes them as two samples (`ratio_interval`). It passes where the ratio is not below 0.9. SAC begins with weights as the
peer's are; `sac_..._orthogonal` is our own default, orthogonal ones.

A run writes checkpoints under `runs/mujoco_learners` and goes on from there when it was killed; one that has ended is
not made again unless its folder and its curves are deleted. Without `--run`, what is there is only compared: the runs
take hours (on one core some 10 minutes for each PPO task, an hour for each SAC task).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from plaudit.core.checkpoint import write_text
from plaudit.core.errors import BadInput
from plaudit.optimize import Callback, PPOConfig, SACConfig, train
from plaudit.optimize.rl.trainer import Trainer
from plaudit.tasks.rollouts import rollout

HERE = Path(__file__).parent
RESULTS, PEER = HERE / "results" / "mujoco_learners.json", HERE / "results" / "sb3_mujoco.json"
RUNS = HERE.parent / "runs" / "mujoco_learners"
ENVS = ("HalfCheetah-v5", "Hopper-v5")
STEPS = {"ppo": 500_000, "sac": 100_000}
SEEDS = (0, 1, 2)
POINTS, LAST = 10, 3
EVALUATION = [10_000 + e for e in range(10)]
FLOOR = 0.9

CONFIG: dict[str, Any] = {
    "ppo": PPOConfig(num_envs=1, rollout=2048, epochs=10, minibatches=32, lr=3e-4, anneal_lr=False, discount=0.99,
                     gae_lambda=0.95, clip=0.2, entropy_coef=0.0, value_coef=1.0, max_grad_norm=0.5,
                     normalise_obs=True, scale_reward=True, hidden=(64, 64), activation="tanh"),
    "sac": SACConfig(num_envs=1, collect=1, rounds=500, update_ratio=1.0, warmup=100, batch=256, discount=0.99,
                     tau=0.005, actor_lr=3e-4, critic_lr=3e-4, temperature_lr=3e-4, hidden=(256, 256),
                     layer_norm=False, initialisation="uniform"),
}


class Curve(Callback):
    """Plays the deterministic policies at `POINTS` moments: after the last update that the moment's steps allow."""

    def __init__(self, steps: int) -> None:
        self.at = [steps * (k + 1) // POINTS for k in range(POINTS)]
        self.steps: list[int] = []
        self.returns: list[list[float]] = []
        """[points, seeds]"""
        self.cpu_s, self._since = 0.0, time.process_time()

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> bool | None:
        following = trainer.steps + trainer.learner.steps_per_iteration
        if len(self.at) > len(self.steps) and following > self.at[len(self.steps)]:
            P = len(trainer.members)
            played = rollout(trainer.task, trainer.trained().policy(None), seeds=EVALUATION * P)
            assert played.env_reward is not None
            found = played.returns(played.env_reward).reshape(P, -1).double().mean(-1)
            self.steps.append(trainer.steps)
            self.returns.append([round(x, 1) for x in found.tolist()])
            print(trainer.algo, trainer.task.name, trainer.steps, self.returns[-1], flush=True)
        return None

    def state_dict(self) -> dict[str, Any]:
        self.cpu_s, self._since = self.cpu_s + time.process_time() - self._since, time.process_time()
        return {"steps": self.steps, "returns": self.returns, "cpu_s": self.cpu_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.returns, self.cpu_s = list(state["steps"]), list(state["returns"]), state["cpu_s"]
        self._since = time.process_time()


def initialisation(algo: str) -> str:
    """How the weights of our agents begin."""
    return getattr(CONFIG[algo], "initialisation", "orthogonal")


def run(algo: str, env: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """The curves of the seeds, in the form of the peer's."""
    suffix = "" if seeds == SEEDS else "-seeds-" + "-".join(map(str, seeds))
    out, curve = RUNS / f"{algo}-{env}-{initialisation(algo)}{suffix}", Curve(STEPS[algo])
    train(algo, env, population=seeds, steps=STEPS[algo], config=CONFIG[algo], callbacks=[curve], out=out, resume=True,
          checkpoint_every=10)
    cpu_s = round(curve.state_dict()["cpu_s"], 1)
    about = {"algo": algo, "env": env, "initialisation": initialisation(algo)}
    return [{**about, "seed": seed, "steps": curve.steps, "returns": [r[p] for r in curve.returns],
             "cpu_s_of_all_seeds": cpu_s} for p, seed in enumerate(seeds)]


def compare(curves: list[dict[str, Any]], peer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each algorithm, task and way to begin that both sides have finished, over all seeds they share."""
    rows = []
    for algo in STEPS:
        for env, begin in product(ENVS, ("uniform", "orthogonal")):
            mine = [c for c in curves if c["initialisation"] == begin]
            sides = [{c["seed"]: float(np.mean(c["returns"][-LAST:])) for c in side
                      if (c["algo"], c["env"]) == (algo, env) and len(c["returns"]) == POINTS}
                     for side in (mine, peer)]
            shared = sorted(set(sides[0]) & set(sides[1]))
            if not set(SEEDS) <= set(shared):
                continue
            ours, theirs = (np.array([side[seed] for seed in shared]) for side in sides)
            ratio = float(ours.mean() / theirs.mean())
            other = "" if begin == initialisation(algo) else f"_{begin}"
            rows.append({
                "name": f"{algo}_{env.partition('-')[0].lower()}{other}",
                "ratio": round(ratio, 3), "ours": round(float(ours.mean()), 1),
                "peer": round(float(theirs.mean()), 1),
                "unit": f"mean return of the last {LAST} of {POINTS} evaluations", "machine": machine(),
                "interval": [round(end, 3) for end in ratio_interval(ours, theirs)], "passed": ratio >= FLOOR,
                "seeds": len(shared), "steps": STEPS[algo]})
    return rows


def ratio_interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """The interval (95%) of the ratio of the means of two independent samples, each of at least two numbers.

    Welch's t for the difference of the logarithms of the means: by the delta method, the log of a mean has the variance
    s^2 / (n mean^2), and the degrees of freedom are Welch's and Satterthwaite's of these. So no end is below 0.

    Raises:
        BadInput: where a mean is not positive, since a ratio says nothing then.
    """
    means, sizes = (np.array([f(x) for x in (ours, theirs)], dtype=float) for f in (np.mean, len))
    if not (means > 0).all():
        raise BadInput("ours, theirs", expected="positive means", received=means.tolist())
    squares = np.array([x.var(ddof=1) for x in (ours, theirs)]) / (sizes * means**2)
    if not squares.any():
        return (ratio := float(means[0] / means[1])), ratio
    freedom = squares.sum() ** 2 / (squares**2 / (sizes - 1)).sum()
    reach = float(stdtrit(freedom, 0.975) * np.sqrt(squares.sum()))
    centre = float(np.log(means[0] / means[1]))
    return math.exp(centre - reach), math.exp(centre + reach)


def machine() -> str:
    """What the figures were taken on."""
    return f"{os.cpu_count()} cores, {platform.machine()}"


def write(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes our curves and what they say beside the peer's."""
    peer = json.loads(PEER.read_text(encoding="utf-8"))["rows"] if PEER.exists() else []
    rows = compare(curves, peer)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "gymnasium": gymnasium.__version__}
    write_text(RESULTS, json.dumps({"versions": versions, "rows": rows, "curves": curves}, indent=1) + "\n")
    return rows


def read() -> list[dict[str, Any]]:
    """Our curves so far."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))["curves"] if RESULTS.exists() else []


def main() -> None:
    """Makes the runs that are missing, if asked to, and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", choices=tuple(STEPS))
    parser.add_argument("--env", choices=ENVS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--run", action="store_true", help="make the runs that are missing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for algo in STEPS if options.algo is None else (options.algo,):
        for env in ENVS if options.env is None else (options.env,):
            done = {c["seed"] for c in read()
                    if (c["algo"], c["env"], c["initialisation"]) == (algo, env, initialisation(algo))}
            if options.run and (missing := tuple(s for s in options.seeds if s not in done)):
                found = run(algo, env, missing)
                write([*read(), *found])  # read again: another process may have finished meanwhile
    for row in write(read()) if read() else []:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
