"""Bandits in compiled loops beside per-step Python: DynLin-UCB and UCB1.

`bandit_dynlin`: 100 runs of DynLin-UCB with 50,000 rounds on the synthetic dynamical system. The peer is the same
algorithm as a straightforward NumPy loop, one run and one round at a time, timed on 5 runs and scaled to 100.

`bandit_ucb1`: UCB1 on 10 Bernoulli arms, 1,000 runs of 10,000 rounds. The peer is SMPyBandits 0.9.7 (`--peer DIR`, made
by `pip install --no-deps --target DIR SMPyBandits==0.9.7`), or without it the same per-step form written here; timed on
2 runs and scaled to 1,000. `lists` is what plain Python lists need, without NumPy.

CPU time of one thread, both sides in turn, random numbers included; ours contains the history with arms, rewards and
means of all pulls, and not the loading of compiled loops. The interval is over the pairs.

Run: python benchmarks/bandits.py [--repeats N] [--peer DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.core.checkpoint import write_text
from plaudit.core.provenance import machine
from plaudit.core.statistics import bootstrap
from plaudit.optimize.bandits import UCB1, DynLinBounds, DynLinUCB, epoch_ends, play
from plaudit.tasks.bandits import Bernoulli, synthetic

RESULT = Path(__file__).parent / "results" / "bandits.json"
DYNLIN = {"runs": 100, "rounds": 50_000}
UCB = {"runs": 1000, "rounds": 10_000}
MEANS = [0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]


def dynlin_loop(rounds: int, seed: int) -> float:
    """One run of DynLin-UCB on the synthetic system, as one would write it down; the regret."""
    bandit = synthetic(0.01)
    bounds = DynLinBounds.of(bandit)
    arms, A, B = bandit.arms_KD, bandit.A, bandit.B
    rng = np.random.default_rng(seed)
    lam, delta, d = math.log(rounds), 1 / rounds, arms.shape[1]
    V, b, x = lam * np.eye(d), np.zeros(d), np.zeros(len(A))
    u, regret, ends, epoch = arms[rng.integers(len(arms))], 0.0, epoch_ends(rounds, bounds.rho), 0
    for t in range(rounds):
        if t > 0 and t == ends[epoch] + 1:
            epoch += 1
            inverse = np.linalg.inv(V)
            beta = (bounds.c1 * math.sqrt(lam) + bounds.c2 / math.sqrt(lam) * math.log(math.e * (t + 1))
                    + math.sqrt(2 * bounds.sigma_bar**2 * (math.log(1 / delta) + d / 2 * math.log(
                        1 + t * bounds.u**2 / (d * lam)))))
            width = np.sqrt(np.einsum("ki,ij,kj->k", arms, inverse, arms))
            u = arms[np.argmax(arms @ (inverse @ b) + beta * width)]
        y = bandit.omega @ x + bandit.theta @ u + bandit.output_noise * rng.standard_normal()
        x = A @ x + B @ u + bandit.state_noise * rng.standard_normal(len(A))
        regret += bandit.best - u @ bandit.h_D
        if t == ends[epoch]:
            V += np.outer(u, u)
            b += u * y
    return float(regret)


class StepUCB:
    """UCB1 in SMPyBandits' form: an index of all arms in NumPy, a random one of the best, one reward at a time."""

    def __init__(self, arms: int) -> None:
        self.t, self.pulls, self.rewards, self.index = 0, np.zeros(arms, dtype=int), np.zeros(arms), np.zeros(arms)

    def startGame(self) -> None:
        self.t = 0
        self.pulls.fill(0)
        self.rewards.fill(0)

    def choice(self) -> int:
        with np.errstate(divide="ignore", invalid="ignore"):
            index = self.rewards / self.pulls + np.sqrt(2 * np.log(self.t) / self.pulls)
        index[self.pulls < 1] = np.inf
        return np.random.choice(np.nonzero(index == np.max(index))[0])

    def getReward(self, arm: int, reward: float) -> None:
        self.t += 1
        self.pulls[arm] += 1
        self.rewards[arm] += reward


def ucb1_loop(peer: Path | None, runs: int) -> None:
    """SMPyBandits' loop: choice, draw, getReward."""
    if peer is None:
        policy: Any = StepUCB(len(MEANS))
        arms: list[Any] = [lambda p=p: np.random.binomial(1, p) for p in MEANS]
    else:
        from Bernoulli import Bernoulli as Arm
        from UCB import UCB as Policy

        policy, arms = Policy(len(MEANS)), [Arm(p).draw for p in MEANS]
    for _ in range(runs):
        policy.startGame()
        for _ in range(UCB["rounds"]):
            arm = policy.choice()
            policy.getReward(arm, arms[arm]())


def ucb1_lists(runs: int) -> None:
    """UCB1 in plain Python."""
    K, sqrt, draw = len(MEANS), math.sqrt, random.random
    for _ in range(runs):
        pulls, sums = [0] * K, [0.0] * K
        for t in range(UCB["rounds"]):
            if t < K:
                arm = t
            else:
                two, best, arm = 2 * math.log(t), -1.0, 0
                for k in range(K):
                    index = sums[k] / pulls[k] + sqrt(two / pulls[k])
                    if index > best:
                        best, arm = index, k
            pulls[arm] += 1
            sums[arm] += draw() < MEANS[arm]


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(name: str, ours: list[float], peer: list[float], **more: Any) -> dict[str, Any]:
    ratio = bootstrap(np.median, np.array(peer) / np.array(ours), seed=0)
    return {"name": name, "ratio": round(ratio.mean, 1),
            "ours": round(float(np.median(ours)), 3), "peer": round(float(np.median(peer)), 2), "unit": "CPU s",
            "interval": [round(ratio.low, 1), round(ratio.high, 1)], "machine": machine(), "pairs": len(ours), **more}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="pairs for each row")
    parser.add_argument("--peer", type=Path, help="the folder that SMPyBandits was installed into")
    options = parser.parse_args()
    if options.peer is not None:
        sys.path[:0] = [str(options.peer / "SMPyBandits" / part) for part in ("Policies", "Arms")]
    bandit = synthetic(0.01)
    bounds = DynLinBounds.of(bandit)

    def dynlin(runs: int, rounds: int) -> Any:
        return play(bandit, DynLinUCB(bounds), runs=runs, rounds=rounds, compiled=True)

    def ucb1(runs: int, rounds: int) -> Any:
        return play(Bernoulli(MEANS), UCB1(), runs=runs, rounds=rounds, compiled=True)

    dynlin(2, 100)
    ucb1(2, 100)
    regret = float(dynlin(10, 10_000).regret_RT.sum(1).mean())
    theirs = float(np.mean([dynlin_loop(10_000, seed) for seed in range(2)]))
    assert abs(regret / theirs - 1) < 0.1, (regret, theirs)  # the same algorithm
    sides: dict[str, tuple[list[float], list[float]]] = {"bandit_dynlin": ([], []), "bandit_ucb1": ([], [])}
    for repeat in range(options.repeats):
        sides["bandit_dynlin"][0].append(cpu(lambda: dynlin(**DYNLIN)))
        sides["bandit_dynlin"][1].append(20 * cpu(lambda r=repeat: [dynlin_loop(DYNLIN["rounds"], 5 * r + i)
                                                                    for i in range(5)]))
        sides["bandit_ucb1"][0].append(cpu(lambda: ucb1(**UCB)))
        sides["bandit_ucb1"][1].append(500 * cpu(lambda: ucb1_loop(options.peer, 2)))
    lists = 100 * cpu(lambda: ucb1_lists(10))
    peer = "the same per-step form" if options.peer is None else "SMPyBandits 0.9.7"
    rows = [row("bandit_dynlin", *sides["bandit_dynlin"], peer_name="a NumPy loop, round by round"),
            row("bandit_ucb1", *sides["bandit_ucb1"], peer_name=peer, lists=round(lists, 1))]
    write_text(RESULT, json.dumps(rows, indent=1) + "\n")
    for found in rows:
        print(f"{found['name']:<14} ratio {found['ratio']:>6} {found['interval']}  ours {found['ours']}  peer "
              f"{found['peer']} {found['unit']}  ({found['peer_name']})")
    print(f"UCB1 in plain Python lists: {lists:.1f} CPU s")


if __name__ == "__main__":
    main()
