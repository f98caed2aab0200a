"""Pairs per second of reward-model training: plaudit beside imitation 1.0.1, run by run in turn.

    python benchmarks/preferences.py [--peer PATH/TO/python] [--repeats 7]

The task of both: 512 pairs of fragments of 100 steps of Pendulum-v1 under random actions, labelled by the true
return; a perceptron with two hidden layers of 32 on inputs that are normalised (the moments counted in the time that
is measured); batches of 32 pairs, 3 epochs, Adam at 1e-3, one thread. An ensemble is 5 networks with a bootstrap
sample each; its rate counts each pair once. Rates are per CPU second. `--peer` names the Python of an environment
made by `make peers`; without one only our side runs, and nothing is written.

The rows go to `benchmarks/results/preferences.json`; `ratio` is the median of the runs' ratios, its interval the
quartiles of a bootstrap over them (2.5% to 97.5%).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plaudit.core.checkpoint import write_text
from plaudit.core.functions import EnvReward
from plaudit.core.provenance import machine
from plaudit.core.statistics import bootstrap
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.preferences import Preferences
from plaudit.learn.calibration import calibration
from plaudit.learn.fitting import FitConfig, fit
from plaudit.tasks.making import make
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

HERE = Path(__file__).parent
PEER = HERE.parent / ".peers" / "imitation" / "bin" / "python"
PAIRS, HELD, FRAGMENT, EPOCHS, BATCH = 512, 256, 100, 3, 32


def labelled() -> Preferences:
    """The comparisons: those to train on first, then those held out."""
    task = make("Pendulum-v1")
    store = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=list(range(PAIRS + HELD)))
    return Oracle(EnvReward())(sample_pairs(store, PAIRS + HELD, length=FRAGMENT, seed=1))


def write_pairs(pairs: Preferences, path: Path) -> None:
    """The comparisons as arrays."""
    sides = [pairs.fragments(side) for side in (0, 1)]
    obs = torch.stack([torch.cat([s.obs, s.next_obs[:, -1:]], 1) for s in sides], 1)  # type: ignore[index]
    np.savez(path, obs=obs.numpy(), action=torch.stack([s.action for s in sides], 1).numpy(),
             reward=torch.stack([s.env_reward for s in sides], 1).numpy(),  # type: ignore[arg-type]
             label=pairs.label.numpy(), train=np.arange(len(pairs)) < PAIRS)


def ours(pairs: Preferences, members: int, seed: int) -> dict[str, float]:
    """One fit."""
    config = FitConfig(epochs=EPOCHS, batch=BATCH, held_out=0.0, over="sum")
    cpu, wall = time.process_time(), time.perf_counter()
    fitted = fit(pairs[:PAIRS], hidden=(32, 32), members=members, seed=seed, config=config)
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    return {**spent, "accuracy": calibration(fitted.reward, pairs[PAIRS:]).accuracy.mean}


def compare(pairs: Preferences, peer: Any, members: int, repeats: int) -> list[dict[str, dict[str, float]]]:
    """Both sides in turn."""
    runs = []
    for turn in range(repeats + 1):
        run = {"ours": ours(pairs, members, turn)}
        if peer is not None:
            peer.stdin.write(f"{members} {EPOCHS} {BATCH}\n")
            peer.stdin.flush()
            run["peer"] = json.loads(peer.stdout.readline())
        if turn:  # the first warms both up
            runs.append(run)
            print(members, {side: {k: round(v, 3) for k, v in values.items()} for side, values in run.items()},
                  flush=True)
    return runs


def row(name: str, runs: list[dict[str, dict[str, float]]], members: int) -> dict[str, Any]:
    """One line of the result."""
    rate = {side: PAIRS * EPOCHS / np.array([r[side]["cpu_s"] for r in runs]) for side in ("ours", "peer")}
    found = bootstrap(np.median, rate["ours"] / rate["peer"], seed=0)
    return {"name": name, "ratio": round(found.mean, 2), "ours": round(float(np.median(rate["ours"])), 1),
            "peer": round(float(np.median(rate["peer"])), 1), "unit": "pairs per CPU second",
            "interval": [round(found.low, 2), round(found.high, 2)], "machine": machine(), "members": members,
            "accuracy": {side: round(float(np.mean([r[side]["accuracy"] for r in runs])), 4) for side in rate},
            "repeats": len(runs)}


def main() -> None:
    """Measures, prints, writes."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--peer", type=Path, default=PEER, help="the Python of an environment with imitation 1.0.1")
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--out", type=Path, default=HERE / "results" / "preferences.json")
    given = options.parse_args()
    torch.set_num_threads(1)
    pairs = labelled()
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if given.peer.exists():
            write_pairs(pairs, Path(folder) / "pairs.npz")
            peer = subprocess.Popen([str(given.peer), str(HERE / "peers" / "imitation_preferences.py"),
                                     str(Path(folder) / "pairs.npz")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.DEVNULL, text=True)
            assert peer.stdout is not None
            peer.stdout.readline()
        else:
            print(f"no {given.peer}: only our side is measured (make peers)", file=sys.stderr)
        found = {members: compare(pairs, peer, members, given.repeats) for members in (1, 5)}
        if peer is not None:
            peer.terminate()
            peer.wait()
    if peer is not None:
        rows = [row("preference_pairs", found[1], 1), row("preference_ensemble", found[5], 5)]
        for line in rows:
            print(json.dumps(line))
        write_text(given.out, json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
