"""STARC on random worlds beside a careful float64 NumPy loop, and canonical rewards of a large sparse grid.

`starc_tabular`: VAL with L2 norm and metric between two rewards on each of 1,000 worlds (32 states, 4 actions,
discount 0.95). The NumPy loop is over worlds alone: inside one, both rewards share one solve, nothing depends on the
next state any more once it is averaged (so 128 numbers stand for 4,096), and it checks nothing. Ours checks
shapes, finiteness and triviality. `starc_tabular_plain` is ours without the compiled loops (extra `fast`).

`starc_sparse_grid`: two random rewards of a grid world of 100,000 states and 4 actions that slip, made canonical in a
process of its own: VAL, and the representative of least norm. Its ratio is the limit of 10 s by our seconds.

CPU time, one thread, both sides in turn; the interval is over the repetitions.
Run: python benchmarks/starc_tabular.py [--worlds N] [--repeats N] [--part PART]; the rows of other parts are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plaudit.auditing.distances.canonical import canonicalise
from plaudit.auditing.distances.tabular import starc
from plaudit.core.checkpoint import write_text
from plaudit.core.provenance import machine
from plaudit.core.statistics import bootstrap
from plaudit.tasks.tabular import TabularMDP, random_mdp

STATES, ACTIONS, DISCOUNT = 32, 4, 0.95
GRID, SLIP = (250, 400), 0.1
GRIDS = {"starc_sparse_grid": "val", "starc_sparse_grid_minimal": "minimal"}
LIMIT_S, LIMIT_GIB = 10.0, 2.0
RESULT = Path(__file__).parent / "results" / "starc_tabular.json"


def numpy_loop(tau: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Distances [W] from transitions [W, S, A, S] and reward pairs [2, W, S, A, S]."""
    eye, out = np.eye(STATES), np.empty(len(tau))
    for w, T in enumerate(tau):
        mean = np.stack([np.einsum("sat,sat->sa", T, rewards[k, w]) for k in (0, 1)], -1)
        value = np.linalg.solve(eye - DISCOUNT * T.mean(1), mean.mean(1))
        after = (T.reshape(-1, STATES) @ value).reshape(STATES, ACTIONS, 2)
        form = (mean + DISCOUNT * after - value[:, None]).reshape(-1, 2)
        form /= np.sqrt((form * form).sum(0))  # the S equal entries of each number would cancel
        apart = form[:, 0] - form[:, 1]
        out[w] = np.sqrt(apart @ apart)
    return out


def tabular(worlds: int, repeats: int) -> list[dict[str, Any]]:
    mdp = random_mdp(states=STATES, actions=ACTIONS, discount=DISCOUNT, batch=(worlds,), seed=0)
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randn((2, worlds, 1, STATES, ACTIONS, STATES), generator=generator, dtype=torch.float64)
    sides: dict[str, Callable[[], np.ndarray]] = {
        "starc_tabular": lambda: starc(rewards[0], mdp, to=rewards[1], compiled=True)[:, 0].numpy(),
        "starc_tabular_plain": lambda: starc(rewards[0], mdp, to=rewards[1], compiled=False)[:, 0].numpy(),
        "peer": lambda: numpy_loop(mdp.transition.numpy(), rewards[:, :, 0].numpy())}
    start = time.perf_counter()
    found = {"starc_tabular": sides["starc_tabular"]()}
    latency = time.perf_counter() - start
    found |= {name: side() for name, side in sides.items() if name not in found}
    worst = {name: float(np.abs(values - found["peer"]).max()) for name, values in found.items()}
    assert max(worst.values()) < 1e-9, worst
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            taken[name].append(cpu_seconds(side))
    rows = [row(name, taken[name], taken["peer"], worst=worst[name]) for name in sides if name != "peer"]
    rows[0]["first_call_s"] = round(latency, 2)
    return rows


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def row(name: str, ours: list[float], peer: list[float], *, worst: float) -> dict[str, Any]:
    ratio = bootstrap(lambda pairs: np.divide(*np.median(pairs, axis=0)), np.stack([peer, ours], axis=1), seed=0)
    return {"name": name, "ratio": round(float(np.median(peer) / np.median(ours)), 2),
            "ours": round(float(np.median(ours)), 5), "peer": round(float(np.median(peer)), 5), "unit": "CPU s",
            "interval": [round(ratio.low, 2), round(ratio.high, 2)], "machine": machine(), "repeats": len(ours),
            "largest_difference": worst}


# --- the sparse grid -----------------------------------------------------------------------------------------


def grid() -> TabularMDP:
    """Every action goes where it says, or with probability SLIP in a random direction; walls hold."""
    rows, columns = GRID
    S = rows * columns
    y, x = np.divmod(np.arange(S), columns)
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))
    there = [np.clip(y + dy, 0, rows - 1) * columns + np.clip(x + dx, 0, columns - 1) for dy, dx in moves]
    pairs = [(a, b) for a in range(4) for b in range(4)]
    return TabularMDP.of_transitions(
        state=np.tile(np.arange(S), 16), action=np.repeat([a for a, _ in pairs], S),
        next_state=np.concatenate([there[b] for _, b in pairs]),
        probability=np.repeat([SLIP / 4 + (1 - SLIP) * (a == b) for a, b in pairs], S), reward=np.zeros(16 * S),
        states=S, actions=4, initial=np.full(S, 1 / S), discount=0.99)


def measure(canonical: Any) -> None:
    """In a process of its own: prints seconds and the peak of its memory."""
    mdp = grid()
    assert not isinstance(mdp.transition, torch.Tensor)
    rewards = torch.randn((2, mdp.transition.nnz), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start, begun = time.perf_counter(), time.process_time()
    form = canonicalise(rewards, mdp, canonical=canonical)
    used, wall = time.process_time() - begun, time.perf_counter() - start
    residual = float(form.expected.mean(-1).abs().max()) if canonical == "val" else None  # 0 in every state
    print(json.dumps({"cpu_s": used, "wall_s": wall, "states": mdp.S, "residual": residual,
                      "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def sparse(grids: dict[str, str], repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name, canonical in grids.items():
        runs = []
        for _ in range(repeats):
            out = subprocess.run([sys.executable, __file__, "--measure", canonical], capture_output=True, text=True,
                                 check=True).stdout
            runs.append(json.loads(out.splitlines()[-1]))
        seconds = [run["cpu_s"] for run in runs]
        ratio = bootstrap(lambda some: LIMIT_S / np.median(some), np.array(seconds), seed=0)
        rows.append({"name": name, "ratio": round(LIMIT_S / float(np.median(seconds)), 2),
                     "ours": round(float(np.median(seconds)), 3), "peer": LIMIT_S, "unit": "CPU s, limit",
                     "interval": [round(ratio.low, 2), round(ratio.high, 2)], "machine": machine(), "repeats": repeats,
                     "wall_s": [round(run["wall_s"], 2) for run in runs],
                     "states": runs[0]["states"], "peak_gib": round(max(run["peak_gib"] for run in runs), 3),
                     "limit_gib": LIMIT_GIB, "residual": runs[0]["residual"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--part", choices=["tabular", *GRIDS], action="append", help="all by default")
    parser.add_argument("--measure", help="(internal) one canonicalisation of the sparse grid")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.measure:
        measure(args.measure)
        return
    parts = args.part or ["tabular", *GRIDS]
    rows = tabular(args.worlds, args.repeats) if "tabular" in parts else []
    rows += sparse({name: kind for name, kind in GRIDS.items() if name in parts}, min(3, args.repeats))
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    kept = [row for row in before if row["name"] not in {found["name"] for found in rows}]
    rows = sorted(kept + rows, key=lambda found: found["name"], reverse=True)
    write_text(RESULT, json.dumps(rows, indent=1) + "\n")
    for found in rows:
        print(f"{found['name']:<28} ratio {found['ratio']:>6.2f} {found['interval']}  ours {found['ours']:.4f}  "
              f"peer {found['peer']:.4f} {found['unit']}")


if __name__ == "__main__":
    main()
