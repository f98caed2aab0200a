"""PPO on CartPole-v1 beside stable-baselines3: speed with learning included, and time to a mean return of 475.

`ppo_cartpole_1`, `ppo_cartpole_16`: environment steps a second of 1 agent and of 16 agents together, 8 environments of
128 steps each, batches of 256, 4 epochs, 64-64 tanh networks, in compiled loops (extra `fast`), which are compiled and
loaded before the clock starts. Rows that end in `_torch` are the same runs by autograd, without compilation. The peer
is one agent of stable-baselines3 (it has no populations: 16 of its agents make as many steps a second as one).

`ppo_cartpole_solve`: seconds in a fresh process, imports of both libraries done, from the call of `train` (or the
making of stable-baselines3's agent) until the last 100 episodes earned 475 on average. Ours contains the loading of
compiled loops from disk; `ppo_cartpole_solve_first` adds what it costs to compile them, once on a machine;
`ppo_cartpole_solve_torch` has none, with the settings of the compiled ones. Each side has its own best settings:
`--tune` runs both sides with the same 12 (those of rl-baselines3-zoo among them) on seeds 1000 to 1003, and the fewest
runs that miss the goal, then the least median of CPU seconds, win (`results/ppo_cartpole_tuning.json`).

`ppo_cartpole_latency`: the first update in a fresh process with nothing compiled, by that with compiled loops on disk.

Ratios are of CPU time (one thread; on a quiet core that is the wall clock, which is also given), both sides in turn;
the interval is over the pairs. The committed rows were measured on two cores that other work shared, runs of `solve`
beside one another: read their CPU time.

Run: python benchmarks/ppo_cartpole.py [--repeats N] [--seeds N] [--only speed|solve] [--tune]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plaudit.core.checkpoint import write_text
from plaudit.core.provenance import machine
from plaudit.core.statistics import bootstrap
from plaudit.optimize import Callback, PPOConfig, train

HERE = Path(__file__).parent
RESULT = HERE / "results" / "ppo_cartpole.json"
TUNING = HERE / "results" / "ppo_cartpole_tuning.json"
UNITS = HERE / "results" / ".ppo_cartpole_units.json"
SPEED: dict[str, Any] = {"num_envs": 8, "rollout": 128, "epochs": 4, "minibatches": 4, "lr": 1e-3,
                         "entropy_coef": 0.01}
SOLVE: dict[str, Any] = {"num_envs": 8, "discount": 0.98, "gae_lambda": 0.8, "anneal_lr": False}
TRIED = [{"lr": lr, "rollout": rollout, "epochs": epochs}
         for lr in (1e-3, 3e-3) for rollout in (32, 128) for epochs in (4, 10, 20)]
"""What `--tune` tries on both sides, with batches of 256."""
SIDES = {"ppo_cartpole_1": (1, "fused", 150), "ppo_cartpole_16": (16, "fused", 30),
         "ppo_cartpole_1_torch": (1, "torch", 25), "ppo_cartpole_16_torch": (16, "torch", 8)}
"""Agents, engine and updates of each measurement."""
PEER_STEPS = 24_576
LIMIT = 300_000


class Units:
    """Finished measurements, kept on disk, so that a killed benchmark goes on."""

    def __init__(self, most: int | None) -> None:
        self.kept: dict[str, Any] = json.loads(UNITS.read_text(encoding="utf-8")) if UNITS.exists() else {}
        self.left, self.warm = most, False

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        if name not in self.kept:
            if self.left is not None and self.left < 1:
                sys.exit("more to measure: run again")
            self.kept[name] = measure()
            print(name, json.dumps(self.kept[name]), flush=True)
            write_text(UNITS, json.dumps(self.kept))
            self.left = None if self.left is None else self.left - 1
        return self.kept[name]


# --- speed --------------------------------------------------------------------------------------------------------


def speed(population: int, engine: Any, updates: int, seed: int) -> tuple[float, float]:
    """Steps of all agents for each second of CPU time and of the wall clock; making the agents counts."""
    config = PPOConfig(**SPEED, engine=engine)
    steps = updates * config.num_envs * config.rollout
    cpu, wall = time.process_time(), time.perf_counter()
    train("ppo", "CartPole-v1", population=population, steps=steps, seed=seed, progress=False, config=config)
    return population * steps / (time.process_time() - cpu), population * steps / (time.perf_counter() - wall)


def speeds(repeats: int, units: Units) -> list[dict[str, Any]]:
    from peers import ppo_cartpole_sb3

    def one(repeat: int) -> dict[str, Any]:
        if not units.warm:
            for population, engine, _ in SIDES.values():
                speed(population, engine, 1, 0)
            ppo_cartpole_sb3.speed(1024, 0)
            units.warm = True
        found = {"peer": ppo_cartpole_sb3.speed(PEER_STEPS, repeat)}
        return found | {name: speed(*side, repeat) for name, side in SIDES.items()}

    runs = [units.get(f"speed {repeat}", lambda repeat=repeat: one(repeat)) for repeat in range(repeats)]
    return [row(name, [run[name] for run in runs], [run["peer"] for run in runs], unit="steps / CPU s",
                less_is_better=False) for name in SIDES]


# --- time to 475 --------------------------------------------------------------------------------------------------


class Until(Callback):
    """Stops when the last 100 episodes of the agent earned 475 on average."""

    def __init__(self) -> None:
        self.last: deque[float] = deque(maxlen=100)
        self.running: list[float] = []
        self.hit: int | None = None

    def on_rollout(self, rollout: Any, trainer: Any) -> bool:
        episodes = rollout.episodes
        self.running = self.running or [0.0] * episodes.B
        done = (episodes.terminated | episodes.truncated).tolist()
        reward = episodes.env_reward.tolist()
        for t in range(episodes.T):
            for b in range(episodes.B):
                self.running[b] += reward[b][t]
                if done[b][t]:
                    self.last.append(self.running[b])
                    self.running[b] = 0.0
                    if self.hit is None and len(self.last) == 100 and np.mean(self.last) >= 475:
                        self.hit = trainer.steps + (t + 1) * episodes.B
        return self.hit is not None


def solve(seed: int, engine: Any, *, lr: float, rollout: int, epochs: int) -> dict[str, Any]:
    """The seconds to the goal."""
    config = PPOConfig(**SOLVE, lr=lr, rollout=rollout, epochs=epochs, minibatches=8 * rollout // 256, engine=engine)
    cpu, wall = time.process_time(), time.perf_counter()
    until = Until()
    train("ppo", "CartPole-v1", steps=LIMIT, seed=seed, progress=False, callbacks=[until], config=config)
    return {"seed": seed, "steps": until.hit, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def first_update(engine: Any) -> dict[str, Any]:
    """The seconds of a run of one update."""
    cpu, wall = time.process_time(), time.perf_counter()
    train("ppo", "CartPole-v1", steps=1024, progress=False, config=PPOConfig(**SPEED, engine=engine))
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def fresh(script: Path, *arguments: str, cache: str | None = None) -> dict[str, Any]:
    """What a script prints last, run in a process of its own."""
    env = {**os.environ, **({} if cache is None else {"NUMBA_CACHE_DIR": cache})}
    out = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=True, env=env)
    return json.loads(out.stdout.splitlines()[-1])


def run_solve(side: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One side's time to the goal, in a fresh process."""
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    if side == "peer":
        return fresh(HERE / "peers" / "ppo_cartpole_sb3.py", "--seed", str(seed), *options)
    return fresh(Path(__file__), "--unit", str(seed), side, *options)


def tune(units: Units) -> None:
    """Writes what each side needed with each of the settings."""
    write_text(TUNING, json.dumps([
        {"side": side, **settings, "runs": [
            units.get(f"tune {side} {settings} {seed}", lambda side=side, settings=settings, seed=seed: run_solve(
                side, seed, settings)) for seed in range(1000, 1004)]}
        for settings in TRIED for side in ("fused", "peer")], indent=1) + "\n")


def best(side: str) -> dict[str, Any]:
    """The settings with which a side was fastest on the seeds of the tuning."""
    tried = [t for t in json.loads(TUNING.read_text(encoding="utf-8")) if t["side"] == side]
    first = min(tried, key=lambda t: (sum(run["steps"] is None for run in t["runs"]),
                                      float(np.median([run["cpu_s"] for run in t["runs"]]))))
    return {name: first[name] for name in TRIED[0]}


def solves(seeds: int, units: Units) -> list[dict[str, Any]]:
    me, (ours, theirs) = Path(__file__), map(best, ("fused", "peer"))
    with tempfile.TemporaryDirectory() as empty:
        first = units.get("first", lambda: fresh(me, "--unit", "first", "fused", cache=empty))
    again = [units.get(f"again {n}", lambda: fresh(me, "--unit", "first", "fused")) for n in range(3)]
    cached = {key: float(np.median([run[key] for run in again])) for key in first}
    found: dict[str, list[dict[str, Any]]] = {"peer": [], "fused": [], "torch": []}
    for seed in range(seeds):
        for side in found:
            found[side].append(units.get(f"{side} {seed}", lambda seed=seed, side=side: run_solve(
                side, seed, theirs if side == "peer" else ours)))
    seconds = {side: [(run["cpu_s"], run["wall_s"]) for run in runs] for side, runs in found.items()}
    extra = first["cpu_s"] - cached["cpu_s"], first["wall_s"] - cached["wall_s"]
    seconds["first"] = [(cpu + extra[0], wall + extra[1]) for cpu, wall in seconds["fused"]]
    rows = []
    for name, side in (("solve", "fused"), ("solve_first", "first"), ("solve_torch", "torch")):
        made = row(f"ppo_cartpole_{name}", seconds[side], seconds["peer"], unit="CPU s", less_is_better=True)
        runs = found["fused" if side == "first" else side]
        rows.append({**made, "settings_ours": ours, "settings_peer": theirs,
                     "steps_ours": [run["steps"] for run in runs],
                     "steps_peer": [run["steps"] for run in found["peer"]]})
    latency = {"name": "ppo_cartpole_latency", "ratio": round(cached["cpu_s"] / first["cpu_s"], 3),
               "ours": round(first["cpu_s"], 2), "peer": round(cached["cpu_s"], 2), "unit": "CPU s, compiled / loaded",
               "interval": None, "machine": machine()}
    return [*rows, latency]


def row(name: str, ours: Sequence[tuple[float, float]], peer: Sequence[tuple[float, float]], *, unit: str,
        less_is_better: bool) -> dict[str, Any]:
    """Medians, the ratio of the medians of CPU time and its interval, by a bootstrap over the pairs; (CPU, wall)."""
    (a, a_wall), (b, b_wall) = ([list(column) for column in zip(*side, strict=True)] for side in (ours, peer))
    better = (lambda x, y: np.divide(y, x)) if less_is_better else np.divide
    interval = bootstrap(lambda pairs: better(*np.median(pairs, axis=0)), np.stack([a, b], axis=1), seed=0)
    middle = [float(np.median(x)) for x in (a, b, a_wall, b_wall)]
    return {"name": name, "ratio": round(float(better(middle[0], middle[1])), 2), "ours": round(middle[0], 2),
            "peer": round(middle[1], 2), "unit": unit,
            "interval": [round(interval.low, 2), round(interval.high, 2)], "machine": machine(), "pairs": len(a),
            "wall": {"ratio": round(float(better(middle[2], middle[3])), 2), "ours": round(middle[2], 2),
                     "peer": round(middle[3], 2)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of the speeds")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the time to 475")
    parser.add_argument("--only", choices=("speed", "solve"), help="measure one; the other rows are kept")
    parser.add_argument("--unit", nargs=2, help="(internal) one run in this process: its seed or 'first', the engine")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--rollout", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--tune", action="store_true", help="choose both sides' settings of the time to 475")
    parser.add_argument("--units", type=int, help="how many measurements at most; run again for the rest")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.unit:
        what, engine = options.unit
        print(json.dumps(first_update(engine) if what == "first" else solve(
            int(what), engine, lr=options.lr, rollout=options.rollout, epochs=options.epochs)))
        return
    if options.tune:
        tune(Units(options.units))
        return
    old = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() and options.only else []
    units = Units(options.units)
    rows = [] if options.only == "solve" else speeds(options.repeats, units)
    rows += [] if options.only == "speed" else solves(options.seeds, units)
    made = {found["name"] for found in rows}
    rows = [*rows, *(kept for kept in old if kept["name"] not in made)]
    write_text(RESULT, json.dumps(rows, indent=1) + "\n")
    UNITS.unlink(missing_ok=True)
    for found in rows:
        print(f"{found['name']:<28} ratio {found['ratio']:>6.2f} {found['interval']}  ours {found['ours']}  "
              f"peer {found['peer']} {found['unit']}")


if __name__ == "__main__":
    main()
