"""33 CSL-UCB (Peng, Zhang and Mitra, IEEE TSP 2025, arXiv 2408.11240): causal bandits whose graph has to be learnt.

Three parts, on random systems of the paper (half of all possible edges, weights of 0.5 to 2, nu = 1, Sigma = I).
(1) Stationary: regret beside UCB over all 2^N interventions, GOLEM and then greed, and Thompson sampling that knows the
graph. (2) A change of two columns that the optimum uses, halfway. (3) Edges that are missing, and edges too many, over
rounds. Regret is expected regret; medians and quartiles, because tails are heavy.

The claims are put to CSL-UCB with the authors' options (a graph for each side of every node); "one graph" is ours. The
baselines are favoured: UCB has the best of three scales and GOLEM the better of two explorations, in each size; GOLEM's
penalties are minimised by L-BFGS and its weights fitted again. The k-nearest-neighbour information takes all
k neighbours, where the authors' code drops one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.optimize.bandits.causal import CSLUCB, CSLOptions
from plaudit.optimize.bandits.causal_baselines import GolemGreedy, LinSEMThompson, RecentUCB, cut, golem, refitted
from plaudit.optimize.bandits.causal_model import CausalModel
from plaudit.optimize.bandits.history import BanditHistory
from plaudit.optimize.bandits.policies import Policy
from plaudit.optimize.bandits.run import play
from plaudit.optimize.bandits.ucb import UCB1, SlidingUCB
from plaudit.tasks.bandits.causal import LinearSEM, random_sem, with_change
from plaudit.tasks.bandits.causal_graph import mixed, on_of, solved
from plaudit.zoo.contract import Arm, Criterion, Outcome, System
from plaudit.zoo.csl_ucb_drawing import drawing
from plaudit.zoo.lab import Lab


@dataclass(frozen=True, kw_only=True)
class CslConfig:
    """Options of the experiment."""

    sizes: tuple[tuple[int, int], ...] = ((6, 1000), (8, 800))
    """Nodes and rounds of part 1."""
    change: tuple[int, int] = (8, 1600)
    """Nodes and rounds of part 2; the change comes halfway."""
    columns: int = 2
    """How many columns change."""
    structure: int = 8
    """Nodes of part 3."""
    grid: tuple[int, ...] = (30, 60, 100, 200, 300, 600)
    """Rounds of part 3; the last is the exploration of the authors' GOLEM."""
    ablations: bool = True
    """Whether part 1 plays the ablations too."""
    points: int = 60
    """Points of the curves."""
    others: int = 20
    """Random systems of parts 2 and 3."""
    seeds: int = 20
    """Random systems of each size of part 1."""


PAPER = CSLOptions(graphs="separate")
CSL, ONE, KNOWN = "CSL-UCB", "CSL-UCB, one graph", "LinSEM-TS, graph known"
ABLATIONS: dict[str, CSLOptions] = {
    "CSL-UCB, errors controlled alike": replace(PAPER, prune=1.96), "CSL-UCB, w = 0": replace(PAPER, weight=0.0),
    "CSL-UCB, weights alone": replace(PAPER, weight=1e6),
    "CSL-UCB, 50 samples a column": replace(PAPER, most=50), "CSL-UCB, 300 samples a column": replace(PAPER, most=300),
    "CSL-UCB, delta = 0.5": replace(PAPER, delta=0.5),
    "CSL-UCB, noise estimated": replace(PAPER, noise="estimated")}
SCALES, EXPLORES = (0.5**0.5, 2.0, 5.0), (5, 20)
UCBS = tuple(f"UCB, bonus x {scale / SCALES[0]:.2g}" for scale in SCALES)
GOLEMS = tuple(f"GOLEM on 2/{part} of the rounds, then greed" for part in EXPLORES)
COLUMN, FULL, GLOBAL, BLIND = "columns reset", "all reset", "all reset, global test", "no test"
RECENT, SLIDING = "UCB, last 10 rewards of an arm", "sliding-window UCB"
CHANGES = {COLUMN: "column", FULL: "full", GLOBAL: "global", BLIND: "none"}
LEARNERS = ("CSL-UCB", "CSL-UCB, one graph", "CSL-UCB, errors controlled alike", "GOLEM", "least squares, threshold")
PILOT = {(6, 1000): (364.0, 0.88), (8, 800): (973.0, 0.88)}
"""The median regret and the share of optimal plays in the last quarter, by the authors' code in a pilot run."""
REGRET, OPTIMAL = "median expected regret, {}", "share of optimal plays in the last quarter, {}"
LOCKED, REWARD = "share of systems never optimal in the last quarter, {}", "mean expected reward, {}"
AFTER = "median expected regret after the change, {}"


# --- 1. stationary -------------------------------------------------------------------------------------------


def players(config: CslConfig, rounds: int) -> dict[str, Callable[[], Policy]]:
    """Everybody of part 1."""
    csl = {CSL: PAPER, ONE: CSLOptions(), **(ABLATIONS if config.ablations else {})}
    made: dict[str, Callable[[], Policy]] = {name: (lambda o=o: CSLUCB(o)) for name, o in csl.items()}
    made |= {name: (lambda s=s: UCB1(scale=s)) for name, s in zip(UCBS, SCALES, strict=True)}
    made |= {name: (lambda p=p: GolemGreedy(explore=max(rounds // p, 2)))
             for name, p in zip(GOLEMS, EXPLORES, strict=True)}
    return {**made, KNOWN: LinSEMThompson}


def stationary(config: CslConfig, seeds: Seeds, *, nodes: int, rounds: int, index: int) -> dict[str, Any]:
    """Everybody on one random system."""
    system, seed = _system(seeds, nodes, index), seeds.child("play", nodes, index).integer()
    return {name: _read(play(system, make(), rounds=rounds, runs=1, seed=seed), config.points)
            for name, make in players(config, rounds).items()}


def _system(seeds: Seeds, nodes: int, index: int) -> LinearSEM:
    return random_sem(nodes, seed=seeds.child("system", nodes, index).integer())


def _read(history: BanditHistory, points: int) -> dict[str, Any]:
    """Regret, its curve, optimal plays at the end (within 0.01, as the authors count), and the mean reward."""
    at = np.linspace(0, history.T - 1, points).round().astype(int)
    curve = history.regret_RT[0].cumsum()
    right = history.regret_RT[0] < 1e-2
    return {"regret": float(curve[-1]), "curve": [float(f"{x:.5g}") for x in curve[at]],
            "optimal": float(right[-max(1, history.T // 4):].mean()), "reward": float(history.mean_RT.mean())}


# --- 2. a change ---------------------------------------------------------------------------------------------


def changing(config: CslConfig, seeds: Seeds, *, index: int) -> dict[str, Any]:
    """Everybody on one system that changes halfway: regret after the change, delay of the alarm, false alarms."""
    nodes, rounds = config.change
    system = with_change(_system(seeds, nodes, index), columns=config.columns, at=rounds // 2,
                         seed=seeds.child("change", index).integer())
    seed = seeds.child("changing", index).integer()
    made: dict[str, Policy] = {name: CSLUCB(replace(PAPER, detect=test)) for name, test in CHANGES.items()}
    made |= {RECENT: RecentUCB(), SLIDING: SlidingUCB(window=rounds // 2, scale=SCALES[0] * 2)}
    out = {}
    for name, policy in made.items():
        history = play(system, policy, rounds=rounds, runs=1, seed=seed)
        out[name] = {**_read(history, config.points),
                     "after": float(history.regret_RT[0, rounds // 2:].sum()), **_alarms(policy, system, rounds // 2)}
    return out


def _alarms(policy: Policy, system: LinearSEM, at: int) -> dict[str, Any]:
    """Rounds from the change to the first alarm (None: none), and alarms that nothing had caused."""
    if not isinstance(policy, CSLUCB):
        return {}
    truly = np.stack([(b[0] != b[1]).any(0) for b in (system.B_SNN, system.B_prime_SNN)])
    exact = policy.options.detect != "global"  # which names no column
    right = [t for _, t, side, n in policy.changes if t >= at and (truly[side, n] or not exact)]
    return {"delay": min(right) - at if right else None, "false": len(
        {(t, side, n) if exact else t for _, t, side, n in policy.changes
         if t < at or (exact and not truly[side, n])})}


# --- 3. structure --------------------------------------------------------------------------------------------


def structure(config: CslConfig, seeds: Seeds, *, index: int) -> dict[str, list[list[float]]]:
    """For each learner and number of rounds: edges missing, edges too many, and what the greedy choice then loses."""
    system = _system(seeds, config.structure, index)
    seed = seeds.child("structure", index).integer()
    rng, most = np.random.default_rng(seed), max(config.grid)
    drawn, halves = rng.integers(system.K, size=most), np.repeat([0, system.K - 1], most)
    x_TN, h_TN = (_observed(system, arm, seed + i) for i, arm in enumerate((drawn, halves)))
    out: dict[str, list[list[float]]] = {name: [] for name in LEARNERS}
    for rounds in config.grid:
        for name, options in zip(LEARNERS, (PAPER, CSLOptions(), replace(PAPER, prune=1.96)), strict=False):
            model = CausalModel(system, replace(options, most=most), known=True)
            model.read(x_TN[:rounds], on_of(drawn[:rounds], system.N, system.allowed), np.ones(rounds, bool),
                       np.zeros((2, system.N), dtype=np.int64))
            model.learn_graphs()
            model.learn_weights()
            out[name].append(_errors(system, model.B_2NN, model.edge_2NN))
        sides = h_TN[: rounds // 2], h_TN[most: most + rounds // 2]
        for name, learn in (("GOLEM", golem), ("least squares, threshold", cut_regressions)):
            B = np.stack([learn(side) for side in sides])
            out[name].append(_errors(system, B, B != 0))
    return out


def _observed(system: LinearSEM, arm_T: np.ndarray, seed: int) -> np.ndarray:
    system.reset(range(seed, seed + len(arm_T)))
    seen = system.pull(arm_T).seen_RM
    assert seen is not None
    return seen


def cut_regressions(x_SN: np.ndarray) -> np.ndarray:
    """Every node on all others; weights of 0.3 and less are dropped, then the smallest until no ring is left."""
    moved = x_SN - x_SN.mean(0)
    precision = np.linalg.pinv(moved.T @ moved)
    B = -precision / np.diag(precision)
    np.fill_diagonal(B, 0)
    return refitted(cut(B), moved.T @ moved)


def _errors(system: LinearSEM, B_2NN: np.ndarray, edge_2NN: np.ndarray) -> list[float]:
    true = np.stack([system.B_SNN[0], system.B_prime_SNN[0]]) != 0
    mean_KN, _ = solved(mixed(B_2NN[0], B_2NN[1], on_of(np.arange(system.K), system.N, system.allowed)), system.nu,
                        system.target)
    assert system.means_SK is not None
    chosen = int(np.nan_to_num(mean_KN[:, system.target], nan=-np.inf).argmax())
    return [float((true & ~edge_2NN).sum()), float((edge_2NN & ~true).sum()),
            float(system.best - system.means_SK[0, chosen])]


# --- the experiment ------------------------------------------------------------------------------------------


def run(config: CslConfig, lab: Lab) -> Outcome:
    """All three parts, system by system."""
    plays = {f"N = {n}, system {i}": {"nodes": n, "rounds": t, "index": i}
             for n, t in config.sizes for i in range(config.seeds)}
    changes = {f"change, system {i}": {"index": i} for i in range(config.others)}
    graphs = {f"structure, system {i}": {"index": i} for i in range(config.others)}
    lab.plan(len(plays) + len(changes) + len(graphs))
    played = dict(zip(plays, lab.units(stationary, plays), strict=True))
    arms, criteria, curves = list[Arm](), list[Criterion](), dict[str, Any]()
    for nodes, rounds in config.sizes:
        found = [played[name] for name, job in plays.items() if job["nodes"] == nodes]
        more = from_stationary(nodes, rounds, found)
        arms, criteria = [*arms, *more[0]], [*criteria, *more[1]]
        curves[size_of(nodes, rounds)] = _quartiles(found, rounds)
    changed = lab.units(changing, changes)
    learnt = lab.units(structure, graphs)
    for more in (from_change(changed, *config.change), from_structure(config.grid, learnt, config.structure)):
        arms, criteria = [*arms, *more[0]], [*criteria, *more[1]]
    curves["change"] = _quartiles(changed, config.change[1])
    errors = {name: np.array([one[name] for one in learnt]).mean(0).round(3).tolist() for name in LEARNERS}
    return Outcome(arms=arms, criteria=criteria,
                   data={"curves": curves, "errors": errors, "grid": list(config.grid)})


def size_of(nodes: int, rounds: int) -> str:
    """How a size is named."""
    return f"N = {nodes}, T = {rounds}"


def _quartiles(found: Sequence[Mapping[str, Any]], rounds: int) -> dict[str, Any]:
    """The quartiles of the curves over systems."""
    points = len(next(iter(found[0].values()))["curve"])
    out: dict[str, Any] = {"round": (np.linspace(0, rounds - 1, points).round() + 1).tolist()}
    for name in found[0]:
        q = np.quantile([one[name]["curve"] for one in found], [0.25, 0.5, 0.75], axis=0)
        out[name] = [[float(f"{x:.5g}") for x in row] for row in q]
    return out


def _median(x: Any) -> Interval:
    return bootstrap(lambda sets: np.median(sets, axis=-1), x, seed=0, vectorised=True)


def ratio(x: np.ndarray, y: np.ndarray | float) -> Interval:
    """The median of x / y over systems, on a logarithmic scale; both count at least 1.

    Example:
        >>> print(ratio(np.array([2.0, 8.0, 4.0]), 2.0).mean)
        2.0
    """
    log = _median(np.log(np.maximum(x, 1.0) / np.maximum(y, 1.0)))
    return Interval(float(np.exp(log.mean)), float(np.exp(log.low)), float(np.exp(log.high)), log.n)


def _best_of(names: Sequence[str], found: Sequence[Mapping[str, Any]], key: str) -> str:
    return min(names, key=lambda name: float(np.median([one[name][key] for one in found])))


def _column(found: Sequence[Mapping[str, Any]], name: str, key: str) -> np.ndarray:
    return np.array([one[name][key] for one in found], dtype=np.float64)


def from_stationary(nodes: int, rounds: int, found: Sequence[Mapping[str, Any]]) -> tuple[list[Arm], list[Criterion]]:
    """Part 1: medians of everybody; CSL-UCB against the best UCB and the better GOLEM."""
    size, pilot = size_of(nodes, rounds), PILOT.get((nodes, rounds))
    arms = []
    for name in found[0]:
        regret, right = _column(found, name, "regret"), _column(found, name, "optimal")
        quart = np.quantile(regret, [0.25, 0.75])
        baseline = not name.startswith("CSL")
        note = f"quartiles {quart[0]:.0f} and {quart[1]:.0f}"
        if name == CSL and pilot is not None:
            note += f"; the authors' code in a pilot: {pilot[0]:.0f}, optimal {pilot[1]:.2f}"
        arms += [Arm(name=name, metric=REGRET.format(size), value=_median(regret), baseline=baseline, note=note),
                 Arm(name=name, metric=OPTIMAL.format(size), value=mean_interval(right), baseline=baseline),
                 Arm(name=name, metric=LOCKED.format(size), value=mean_interval(right == 0), baseline=baseline),
                 Arm(name=name, metric=REWARD.format(size), value=mean_interval(_column(found, name, "reward")),
                     baseline=baseline)]
    ours, criteria = _column(found, CSL, "regret"), list[Criterion]()
    for names in (UCBS, GOLEMS):
        best = _best_of(names, found, "regret")
        criteria.append(Criterion(says=f"{size}: regret of CSL-UCB / that of {best}, median over systems", below=1.0,
                                  value=ratio(ours, _column(found, best, "regret"))))
    best = max((*UCBS, *GOLEMS), key=lambda name: float(_column(found, name, "reward").mean()))
    pairs = np.stack([_column(found, CSL, "reward"), _column(found, best, "reward")], 1)
    criteria.append(Criterion(says=f"{size}: reward of CSL-UCB / that of {best}, means over systems", above=1.0,
                              value=bootstrap(lambda sets: sets[..., 0].mean(-1) / sets[..., 1].mean(-1), pairs, seed=0,
                                              vectorised=True)))
    if pilot is not None:
        criteria.append(Criterion(says=f"{size}: median regret of CSL-UCB / that of the authors' code in a pilot",
                                  value=ratio(ours, pilot[0]), above=0.5, below=2.0))
    return arms, criteria


def from_change(found: Sequence[Mapping[str, Any]], nodes: int, rounds: int) -> tuple[list[Arm], list[Criterion]]:
    """Part 2: columns reset against everything reset, and against UCB that forgets."""
    size, arms = size_of(nodes, rounds), list[Arm]()
    for name in found[0]:
        arms.append(Arm(name=name, metric=AFTER.format(size), value=_median(_column(found, name, "after")),
                        baseline=name != COLUMN))
        if "false" in found[0][name] and name != BLIND:
            delays = [one[name]["delay"] for one in found]
            seen = [d for d in delays if d is not None]
            arms.append(Arm(name=name, metric=f"false alarms, {size}", value=mean_interval(
                _column(found, name, "false")), baseline=name != COLUMN))
            arms.append(Arm(name=name, metric=f"share of changes noticed, {size}", baseline=name != COLUMN,
                            value=mean_interval(np.array([d is not None for d in delays], dtype=np.float64))))
            if seen:
                arms.append(Arm(name=name, metric=f"median rounds from a noticed change to the alarm, {size}",
                                value=_median(np.array(seen, dtype=np.float64)), baseline=name != COLUMN))
    ours, criteria = _column(found, COLUMN, "after"), list[Criterion]()
    for other in (_best_of((FULL, GLOBAL), found, "after"), _best_of((RECENT, SLIDING), found, "after")):
        criteria.append(Criterion(says=f"change: regret after it, {COLUMN} / {other}, median over systems", below=1.0,
                                  value=ratio(ours, _column(found, other, "after"))))
    return arms, criteria


def from_structure(grid: Sequence[int], found: Sequence[Mapping[str, Any]], nodes: int) -> tuple[list[Arm],
                                                                                             list[Criterion]]:
    """Part 3: errors at the end, and the rounds that CSL-UCB saves."""
    size, arms = f"N = {nodes}, {grid[-1]} rounds", list[Arm]()
    table = {name: np.array([one[name] for one in found]) for name in LEARNERS}
    for name, errors in table.items():
        for j, metric in enumerate(("missing edges", "edges too many", "loss of the greedy choice")):
            arms.append(Arm(name=name, metric=f"{metric}, {size}", value=mean_interval(errors[:, -1, j]),
                            baseline=not name.startswith("CSL")))
    both = np.stack([table[CSL][:, :, 0], table["GOLEM"][:, :, 0]], 1)
    saved = bootstrap(lambda one: fewer(grid, one[:, 0].mean(0), one[:, 1].mean(0)[-1]), both, seed=0)
    return arms, [Criterion(says=f"structure: share of rounds saved until no more edges are missing than GOLEM misses "
                                 f"after {grid[-1]}", value=saved, above=0.0)]


def fewer(grid: Sequence[int], missing: ArrayLike, level: float) -> float:
    """1 - rounds / the last of the grid, for the first rounds at which `missing` is down to the level.

    Example:
        >>> fewer([50, 100, 200], [6.0, 4.0, 2.0], 3.0)
        0.25
        >>> fewer([50, 100], [6.0, 4.0], 1.0)  # never in the grid: counted as twice the last
        -1.0
    """
    curve = np.asarray(missing, dtype=np.float64)
    for i, value in enumerate(curve):
        if value <= level:
            rounds = float(grid[0]) if i == 0 else float(np.interp(level, [value, curve[i - 1]],
                                                                   [grid[i], grid[i - 1]]))
            return 1 - rounds / grid[-1]
    return -1.0


SYSTEM = System(
    number=33, name="csl-ucb", title="Causal bandits with asymmetric error control (CSL-UCB)", room="optimize",
    claim="A learner that finds the causal graph column by column, keeps doubtful edges rather than lose true ones, "
          "and adds a confidence width to each of 2^N interventions has less regret and earns more than UCB over all "
          "interventions and than GOLEM followed by greed; it needs fewer rounds to find the true edges; and when the "
          "system changes, relearning only the columns that changed beats relearning all, and UCB that forgets.",
    scales={
        "smoke": CslConfig(sizes=((4, 100),), change=(4, 300), structure=4, grid=(60, 100), ablations=False, points=8,
                           others=2, seeds=2),
        "small": CslConfig(),
        "paper": CslConfig(sizes=((10, 1500),), change=(10, 3000), structure=10, ablations=False,
                           seeds=100),
    },
    run=run, draw=drawing)
