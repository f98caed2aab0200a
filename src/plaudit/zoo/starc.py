"""08 STARC (Skalse et al., ICLR 2024, arXiv 2309.15257): does the distance of two rewards predict regret?

Three parts. (1) The paper's protocol: random worlds, random reward pairs, interpolation from one to the other,
and the correlation of each distance with the regret of optimising the one and being judged by the other.
(2) The invariances that define the distance, to rounding, and the example that EPIC gets wrong. (3) A
continuous task, Pendulum, where the distance can only be sampled: are four rewards put into the right order?

Deviations from the paper's code, each for less noise: returns are computed exactly instead of by rollouts;
the minimal representative is solved for instead of approached by gradient steps; canonical rewards count as
trivial only below rounding, because a tenth of the protocol's rewards live on transitions of probability
1e-10, which still order policies (an arm shows what a flat threshold costs). Pendulum stands for Reacher,
because its dynamics are known: the sampled distances stand beside exact ones on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.distances.canonical import canonicalise
from plaudit.auditing.distances.sampled import distances
from plaudit.auditing.distances.tabular import epic, mutual_regret, regret, starc
from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward as as_reward
from plaudit.core.intervals import Interval
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.tasks.classic import Pendulum
from plaudit.tasks.tabular import TabularMDP, random_mdp
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREY, INK, LEGEND, ORANGE, Series, interval, interval_rows, panels, title
from plaudit.zoo.lab import Lab

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class StarcConfig:
    """Options of the experiment."""

    states: tuple[int, ...] = (32,)
    """Numbers of states of the random worlds."""
    actions: int = 4
    """Actions of the random worlds."""
    discount: float = 0.95
    """Discount of the random worlds."""
    mdps: int = 24
    """Random worlds for each seed and number of states."""
    pairs: int = 4
    """Reward pairs in each world."""
    steps: int = 16
    """Interpolation steps from the first reward of a pair to the second."""
    seeds: int = 10
    """Independent repetitions of parts 1 and 3."""
    invariance_worlds: int = 20
    """Random worlds of part 2."""
    samples: int = 20_000
    """Transitions of a random policy on Pendulum."""
    random_rewards: int = 4
    """Random linear rewards on Pendulum in each repetition."""
    grid: tuple[int, int, int] = (121, 121, 7)
    """Angles, velocities and torques of the grid that makes Pendulum finite."""


ARMS: dict[str, dict[str, Any]] = {
    "no canonical form": {"canonical": "none"},
    "EPIC": {"canonical": "epic"},
    "DARD": {"canonical": "dard"},
    "VALPotential": {"canonical": "val_potential"},
    "MinimalPotential": {"canonical": "minimal_potential"},
    "VAL": {"canonical": "val"},
    "Minimal": {"canonical": "minimal"},
    "EPIC, weighted L1": {"canonical": "epic", "norm": "weighted_l1", "metric": "weighted_l1"},
    "VAL, weighted L1": {"canonical": "val", "norm": "weighted_l1", "metric": "weighted_l1"},
    "VAL, range norm": {"canonical": "val", "norm": "range"},
    "VAL, trivial below 1e-8": {"canonical": "val", "trivial": 1e-8},
}
"""Norm and metric are L2 unless the name says otherwise."""
STARC_ARMS = tuple(name for name in ARMS if name.startswith(("VAL", "Minimal")) and "Potential" not in name)
CORRELATION = "Pearson r with regret"
PENDULUM_DISCOUNT = 0.99
EXACT = "VAL, exact on a grid"
METHODS = ("VAL", "Minimal", "EPIC", EXACT)


# --- 1. random worlds ------------------------------------------------------------------------------------


def random_rewards(mdp: TabularMDP, count: int, generator: torch.Generator) -> Float[Tensor, "R S A S"]:
    """Rewards as in the paper's code: normal, 20% sparse, 70% scaled, 30% shifted, 50% potential-shaped."""
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def sometimes(share: float, value: Tensor, otherwise: Tensor | float) -> Tensor:
        return torch.where((uniform(count) < share)[:, None, None, None], value, otherwise)

    S = mdp.S
    out = normal(count, S, mdp.A, S)
    keep = 3.0 if S < 50 else 3.5 if S < 100 else 3.8
    out = sometimes(0.2, torch.where(out > keep, out, 0.0), out)
    out = out * sometimes(0.7, 10 * uniform(count)[:, None, None, None], 1.0)
    out = out + sometimes(0.3, 10 * uniform(count)[:, None, None, None], 0.0)
    potential = normal(count, S) * 10 * uniform(count)[:, None] + uniform(count)[:, None]
    return sometimes(0.5, out + mdp.discount * potential[:, None, None, :] - potential[:, :, None, None], out)


def one_world(config: StarcConfig, seeds: Seeds, *, states: int, seed: int, world: int) -> dict[str, list[float]]:
    """Distances of every arm and regrets of all interpolated pairs of one random world."""
    seeds = seeds.child("world", states, seed, world)
    mdp = random_mdp(states=states, actions=config.actions, discount=config.discount, seed=seeds.child("mdp").integer())
    ends = random_rewards(mdp, 2 * config.pairs, seeds.child("rewards").torch())
    first, second = ends[: config.pairs], ends[config.pairs:]
    share = torch.linspace(1 / config.steps, 1, config.steps, dtype=torch.float64)[None, :, None, None, None]
    between = (first[:, None] + share * (second - first)[:, None]).flatten(0, 1)
    start = first.repeat_interleave(config.steps, 0)
    out = {name: starc(start, mdp, to=between, **options) for name, options in ARMS.items()}
    out["regret"] = mutual_regret(start, mdp, to=between)
    return {name: [float(f"{x:.9g}") for x in values.tolist()] for name, values in out.items()}


def correlations(worlds: list[dict[str, list[float]]]) -> tuple[list[Arm], list[Criterion]]:
    """Correlation of each arm with regret, and paired differences, by resampling whole worlds."""
    distance = np.array([[w[name] for name in ARMS] for w in worlds])  # [worlds, arms, pairs]
    lost = np.array([w["regret"] for w in worlds])[:, None, :]
    sums = np.stack([np.broadcast_to(x, distance.shape).sum(-1) for x in (
        np.ones(1), distance, lost, distance**2, lost**2, distance * lost)], -1)  # [worlds, arms, 6]

    def pearson(sets: np.ndarray) -> np.ndarray:  # [draws, worlds, arms, 6] -> [draws, arms]
        n, x, y, xx, yy, xy = np.moveaxis(sets.sum(1), -1, 0)
        return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))

    at = {name: i for i, name in enumerate(ARMS)}

    def interval(fn: Callable[[np.ndarray], np.ndarray]) -> Interval:
        return bootstrap(lambda sets: fn(pearson(sets)), sums, seed=0, vectorised=True)

    arms = [Arm(name=name, metric=CORRELATION, value=interval(lambda r, i=i: r[:, i]), baseline=name not in STARC_ARMS)
            for name, i in at.items()]

    def difference(a: str, b: str) -> Interval:
        return interval(lambda r: r[:, at[a]] - r[:, at[b]])

    return arms, [
        Criterion(says="r(VAL) - r(EPIC)", value=difference("VAL", "EPIC"), above=0.0),
        Criterion(says="r(VAL, weighted L1) - r(EPIC, weighted L1)",
                  value=difference("VAL, weighted L1", "EPIC, weighted L1"), above=0.0),
        Criterion(says="r(EPIC) - r(VALPotential), equal within 0.05", value=difference("EPIC", "VALPotential"),
                  above=-0.05, below=0.05),
        Criterion(says="r(EPIC) - r(no canonical form), by far", value=difference("EPIC", "no canonical form"),
                  above=0.1),
    ]


# --- 2. invariance ---------------------------------------------------------------------------------------


def invariance(config: StarcConfig, seeds: Seeds) -> dict[str, float]:
    """The worst deviation over random worlds of what has to be 0, 2, or large."""
    seeds = seeds.child("invariance")
    worst = {"VAL": 0.0, "Minimal": 0.0, "opposite": 0.0, "triangle": -math.inf, "EPIC moves": math.inf,
             "EPIC regret": 0.0}
    for i in range(config.invariance_worlds):
        own = seeds.child(i)
        mdp = random_mdp(states=config.states[0], actions=config.actions, discount=config.discount,
                         seed=own.child("mdp").integer())
        tau, generator = torch.as_tensor(mdp.transition), own.child("rewards").torch()
        drawn = random_rewards(mdp, 16, generator)
        form = canonicalise(drawn, mdp)
        # sparse rewards often live on transitions of probability 1e-10 alone, where shaping hides them in rounding
        r, other = drawn[form.values.abs().amax(-1) > 1e-3 * form.scale][:2]
        potential = 10 * torch.randn(mdp.S, generator=generator, dtype=torch.float64)
        noise = 5 * torch.randn(r.shape, generator=generator, dtype=torch.float64)
        moved = noise - (tau * noise).sum(-1, keepdim=True)
        same = 7.5 * r + mdp.discount * potential - potential[:, None, None] + moved
        rewards = torch.stack([r, same, -r, other])
        for name, d in (("VAL", starc(rewards, mdp)), ("Minimal", starc(rewards, mdp, canonical="minimal"))):
            worst[name] = max(worst[name], float(d[0, 1]))
            worst["opposite"] = max(worst["opposite"], abs(float(d[0, 2]) - 2))
            worst["triangle"] = max(worst["triangle"], float((d - (d[:, :, None] + d[None]).amin(1)).amax()))
        pair = torch.stack([r, r + moved])
        worst["EPIC moves"] = min(worst["EPIC moves"], float(epic(pair, mdp)[0, 1]))
        worst["EPIC regret"] = max(worst["EPIC regret"], float(regret(pair, mdp).amax()))
    return worst


def invariance_criteria(worst: Mapping[str, float], n: int) -> list[Criterion]:
    """Part 2 as numbers with their limits."""
    exact = lambda x: Interval(x, x, x, n)  # noqa: E731
    return [
        Criterion(says="VAL: d(R, 7.5 R + shaping + redistribution), worst", value=exact(worst["VAL"]), below=1e-9),
        Criterion(says="Minimal: the same", value=exact(worst["Minimal"]), below=1e-9),
        Criterion(says="|d(R, -R) - 2|, worst", value=exact(worst["opposite"]), below=1e-9),
        Criterion(says="excess over the triangle inequality, worst", value=exact(worst["triangle"]), below=1e-9),
        Criterion(says="EPIC between R and R + redistribution, least", value=exact(worst["EPIC moves"]), above=0.1),
        Criterion(says="regret between the two, worst", value=exact(worst["EPIC regret"]), below=1e-9),
    ]


# --- 3. Pendulum -----------------------------------------------------------------------------------------


def angle(obs: Tensor) -> Tensor:
    """The angle (rad) of an observation [cos, sin, velocity]; 0 is upright."""
    return torch.atan2(obs[..., 1], obs[..., 0])


def upright(obs: Tensor, action: Tensor) -> Tensor:
    """Pendulum's own reward."""
    return -(angle(obs) ** 2 + 0.1 * obs[..., 2] ** 2 + 0.001 * action[..., 0] ** 2)


def pendulum_rewards(count: int, generator: torch.Generator) -> dict[str, Reward]:
    """The true reward and those that are compared with it."""
    def potential(obs: Tensor) -> Tensor:
        return 12 * obs[..., 0] + obs[..., 2] * (1 + 2 * obs[..., 1]) + 3 * torch.sin(obs[..., 2] + 2 * obs[..., 0])

    def shaped(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return upright(obs, action) + PENDULUM_DISCOUNT * potential(next_obs) - potential(obs)

    def second_peak(obs: Tensor, action: Tensor) -> Tensor:
        return upright(obs, action) + 12 * torch.exp(-((angle(obs) - 2.1) ** 2) / (2 * 0.4**2))

    def linear(weight: Tensor) -> Callable[..., Tensor]:
        def scored(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
            x = torch.cat([obs, action, next_obs], -1)
            return (x * weight.to(x.dtype)).sum(-1)

        return scored

    weights = torch.randn(count, 7, generator=generator, dtype=torch.float64)
    rewards = {"truth": upright, "shaped": shaped, "second peak": second_peak,
               **{f"random {i}": linear(w) for i, w in enumerate(weights)}}
    out: dict[str, Reward] = {name: as_reward(fn, name=name) for name, fn in rewards.items()}
    return {**out, "negated": -1.0 * out["truth"]}


def on_pendulum(config: StarcConfig, seeds: Seeds, *, method: str, seed: int) -> dict[str, float]:
    """Distance to the true reward by name (the random ones averaged), and the floor where it is sampled."""
    seeds = seeds.child("pendulum", seed)
    if method == EXACT:
        return on_grid(config, seeds)
    options: dict[str, dict[str, Any]] = {
        "VAL": {"canonical": "val"}, "Minimal": {"canonical": "minimal"}, "EPIC": {"kind": "epic"}}
    rewards = pendulum_rewards(config.random_rewards, seeds.child("rewards").torch())
    truth = rewards.pop("truth")
    found = distances(list(rewards.values()), truth, Pendulum(), samples=config.samples,
                      seed=seeds.child("samples").integer(), discount=PENDULUM_DISCOUNT, **options[method])
    return {**_by_family({name: d.value for name, d in zip(rewards, found, strict=True)}), "floor": found[0].floor}


def on_grid(config: StarcConfig, seeds: Seeds) -> dict[str, float]:
    """Exact distances on a finite Pendulum: the next state is shared among the four grid points around it."""
    mdp, transitions = grid_pendulum(*config.grid)
    rewards = pendulum_rewards(config.random_rewards, seeds.child("rewards").torch())
    values = torch.stack([r(transitions)[:, 0].double() for r in rewards.values()])
    d = starc(values, mdp, canonical="val", norm="weighted_l2", metric="weighted_l2")[0].tolist()
    return _by_family(dict(list(zip(rewards, d, strict=True))[1:]))


def grid_pendulum(angles: int, velocities: int, torques: int) -> tuple[TabularMDP, Episodes]:
    """Pendulum on a grid of angle and velocity, and the transition of each stored probability."""
    theta = np.arange(angles) * 2 * np.pi / angles
    speed = np.linspace(-8, 8, velocities)
    torque = (np.arange(torques) + 0.5) / torques * 4 - 2
    at, v, u = (x.ravel() for x in np.meshgrid(theta, speed, torque, indexing="ij"))
    faster = np.clip(v + (15 * np.sin(at) + 3 * u) * 0.05, -8, 8)
    column, row = (at + faster * 0.05) / (2 * np.pi / angles), (faster + 8) / 16 * (velocities - 1)
    i, j = np.floor(column), np.clip(np.floor(row), 0, velocities - 2)
    right, up = column - i, row - j
    corners = [((i + di) % angles * velocities + j + dj, (right if di else 1 - right) * (up if dj else 1 - up))
               for di in (0, 1) for dj in (0, 1)]
    pair = np.arange(at.size)
    states = angles * velocities
    mdp = TabularMDP.of_transitions(
        state=np.tile(pair // torques, 4), action=np.tile(pair % torques, 4),
        next_state=np.concatenate([c for c, _ in corners]), probability=np.concatenate([p for _, p in corners]),
        reward=np.zeros(4 * at.size), states=states, actions=torques, initial=np.full(states, 1 / states),
        discount=PENDULUM_DISCOUNT, sparse=True)
    flat, after = mdp.entries()

    def observe(state: Tensor) -> Tensor:
        a, s = torch.from_numpy(theta)[state // velocities], torch.from_numpy(speed)[state % velocities]
        return torch.stack([a.cos(), a.sin(), s], -1)

    action = torch.from_numpy(torque)[flat % torques].unsqueeze(-1)
    return mdp, Episodes.of_transitions(obs=observe(flat // torques), action=action, next_obs=observe(after))


def _by_family(values: Mapping[str, float]) -> dict[str, float]:
    out = {k: v for k, v in values.items() if not k.startswith("random")}
    return {**out, "random": float(np.mean([v for k, v in values.items() if k.startswith("random")]))}


def pendulum_arms(runs: Mapping[str, list[dict[str, float]]]) -> tuple[list[Arm], list[Criterion]]:
    """Mean distance of each reward over repetitions, and the gaps between neighbours in the expected order."""
    order = ("shaped", "second peak", "random", "negated")
    arms = [Arm(name=method, metric=f"distance to {name}" if name != "floor" else "self-distance floor",
                value=mean_interval([run[name] for run in repeats]), baseline=method == "EPIC")
            for method, repeats in runs.items() for name in repeats[0]]
    criteria = []
    for method in ("VAL", "Minimal"):
        for near, far in zip(order[:-1], order[1:], strict=True):
            gap = mean_interval([run[far] - run[near] for run in runs[method]])
            criteria.append(Criterion(says=f"{method} on Pendulum: d({far}) - d({near})", value=gap, above=0.0))
    return arms, criteria


# --- the experiment --------------------------------------------------------------------------------------


def run(config: StarcConfig, lab: Lab) -> Outcome:
    """All three parts."""
    repeats = range(config.seeds)
    worlds = {f"{S} states, seed {s}, world {m}": {"states": S, "seed": s, "world": m}
              for S in config.states for s in repeats for m in range(config.mdps)}
    pendulum = {f"Pendulum, {method}, seed {s}": {"method": method, "seed": s} for method in METHODS for s in repeats}
    lab.plan(len(worlds) + 1 + len(pendulum))
    measured = lab.units(one_world, worlds)
    worst, = lab.units(invariance, {"invariance": {}})
    distant = lab.units(on_pendulum, pendulum)
    runs = {method: distant[i * config.seeds:(i + 1) * config.seeds] for i, method in enumerate(METHODS)}
    arms, criteria = correlations(measured)
    more_arms, ordering = pendulum_arms(runs)
    return Outcome(arms=[*arms, *more_arms], data={"scatter": _scatter(measured)},
                   criteria=[*criteria, *invariance_criteria(worst, config.invariance_worlds), *ordering])


def _scatter(worlds: list[dict[str, list[float]]], most: int = 1500) -> dict[str, list[float]]:
    names = ("regret", "EPIC", "VAL")
    flat = {name: [x for w in worlds for x in w[name]] for name in names}
    stride = max(1, len(flat["regret"]) // most)
    return {name: [round(x, 4) for x in values[::stride]] for name, values in flat.items()}


# --- the figure ------------------------------------------------------------------------------------------


def draw(result: ZooResult) -> Figure:
    """Correlations by arm, distance against regret, and the order of rewards on Pendulum."""
    figure, (left, middle, right) = panels(13.5, 4.3, columns=3, widths=[1.15, 1.0, 1.15])
    _draw_correlations(left, result)
    _draw_scatter(middle, result)
    _draw_pendulum(right, result)
    return figure


def _draw_correlations(axes: Axes, result: ZooResult) -> None:
    arms = sorted((a for a in result.arms if a.metric == CORRELATION), key=lambda a: a.value.mean)
    interval_rows(axes, [a.name for a in reversed(arms)], Series(
        values=[a.value for a in reversed(arms)], colour=[GREY if a.baseline else BLUE for a in reversed(arms)]))
    for y, arm in enumerate(arms):
        axes.annotate(f"{arm.value.mean:.3f}", (arm.value.high, y), xytext=(6, 0), textcoords="offset points",
                      va="center", fontsize=8, color=INK)
    axes.set_xlim(right=max(a.value.high for a in arms) + 0.06)
    axes.set_xlabel(f"{CORRELATION}, 95% intervals over {arms[0].value.n} worlds")
    title(axes, "Which distance predicts regret?")
    axes.plot([], [], "o-", color=BLUE, lw=2.5, label="STARC")
    axes.plot([], [], "o-", color=GREY, lw=2.5, label="not a STARC distance")
    axes.legend(**LEGEND, loc="center left")


def _draw_scatter(axes: Axes, result: ZooResult) -> None:
    points = result.data["scatter"]
    for name, colour in (("EPIC", ORANGE), ("VAL", BLUE)):
        axes.plot(points[name], points["regret"], ".", color=colour, ms=4, alpha=0.35, mec="none")
        axes.plot([], [], ".", color=colour, ms=9, label=name)
    axes.set_xlabel("distance (L2 norm, L2 metric)")
    axes.set_ylabel("mutual regret, share of the range")
    axes.set_xlim(0, 2)
    axes.set_ylim(0, None)
    title(axes, "Distance against regret")
    axes.legend(**LEGEND, loc="upper left")


def _draw_pendulum(axes: Axes, result: ZooResult) -> None:
    names = ("shaped", "second peak", "random", "negated")
    methods = [(EXACT, INK, "D"), ("VAL", BLUE, "o"), ("Minimal", ORANGE, "s")]
    for k, (method, colour, marker) in enumerate(methods):
        x = np.arange(len(names)) + 0.2 * (k - 1)
        for i, (at, name) in enumerate(zip(x, names, strict=True)):
            interval(axes, result.arm(method, f"distance to {name}").value, at, colour=colour, marker=marker,
                     upright=True, label=None if i else f"{method}, sampled" if k else method)
        if k:
            floor = result.arm(method, "self-distance floor").value.mean
            axes.axhline(floor, color=colour, lw=1, ls=":", zorder=0)
            axes.annotate(f"floor of {method}", (3.35, floor), ha="right", va="bottom", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.45, 3.4)
    axes.set_ylim(-0.05, 2.1)
    axes.set_ylabel("STARC distance to the true reward")
    title(axes, "Pendulum: sampled and exact distances")
    axes.legend(**LEGEND, loc="upper left")


SYSTEM = System(
    number=8, name="starc", title="STARC: reward distances with guarantees", room="auditing",
    claim="The STARC distance VAL correlates with regret better than EPIC, which is like VALPotential and far better "
          "than no canonical form; it is 0 exactly up to scale, shaping and redistribution; and its sampled form "
          "orders shaped < second peak < random < negated on a continuous task.",
    scales={
        "smoke": StarcConfig(states=(8,), mdps=3, pairs=2, steps=4, seeds=2, invariance_worlds=2, samples=500,
                             random_rewards=1, grid=(31, 31, 3)),
        "small": StarcConfig(),
        "paper": StarcConfig(states=(32, 64, 128), mdps=26, pairs=8, seeds=5, samples=100_000, random_rewards=16),
    },
    run=run, draw=draw)
