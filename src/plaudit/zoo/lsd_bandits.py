"""15 LSD bandits (Foussoul et al., ICML 2023, arXiv 2306.00338): does rounding a relaxation keep 1 - 1/e of it?

Four parts. (1) Random monotone instances small enough for the exact optimum: relaxation, rounding, best of many
roundings, and the baselines. (2) A trap for greed. (3) The family of equal arms on which rounding falls to 1 - 1/e.
(4) Learning from Bernoulli payoffs: regret against the same plan with the payoffs known, over horizons.

Only the paper's abstract could be read: the algorithm is our derivation of what it announces (relaxation over cycles,
virtual states, a guarantee of 1 - 1/e), so this tests the announced claim, not the authors' proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.optimize.bandits.policies import Policy
from plaudit.optimize.bandits.run import play
from plaudit.optimize.bandits.switching import (
    SwitchingGreedy,
    averages,
    best_of,
    draw,
    optimal_average,
    single_cycle,
)
from plaudit.optimize.bandits.switching_learning import BlockUCB, SwitchingCommit, SwitchingOptimist
from plaudit.optimize.bandits.ucb import UCB1
from plaudit.tasks.bandits.switching import FLOOR, LastSwitch, random_monotone, relax, tight, trap
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, Series, interval_rows, panels, title
from plaudit.zoo.lab import Lab

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class LsdConfig:
    """Options of the experiment."""

    instances: int = 25
    """Random instances of part 1."""
    arms: int = 3
    longest: int = 4
    """The longest rest or run that counts, D."""
    roundings: int = 1000
    """For the mean of part 1 to 3."""
    best_of: int = 150
    """Of so many roundings the best is played."""
    rounds: int = 480
    """A rounding is played for so many rounds without noise."""
    family: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Equal arms of part 3."""
    horizons: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000)
    """Of part 4."""
    learn_best_of: int = 30
    """Roundings of a learner's plan, and of the plan that it is compared with."""
    comparisons: int = 200
    """Plans with known payoffs, whose mean regret is counted against."""
    seeds: int = 10
    """Runs of part 4."""


LEARNERS = ("explore, then commit", "optimism, doubling epochs", "block UCB", "UCB1")
BASELINES = ("block UCB", "UCB1")
WORLDS = ("trap", "random")


# --- 1. random instances -----------------------------------------------------------------------------------


def instance(config: LsdConfig, seeds: Seeds, *, index: int) -> dict[str, Any]:
    """What everybody earns on one random instance, as shares of the optimum (and of the relaxation)."""
    own = seeds.child("instance", index)
    p = random_monotone(config.arms, config.longest, seed=own.integer())
    rng, relaxation, optimum = own.child("draws").numpy(), relax(p), optimal_average(p)
    M, T = config.roundings, config.rounds
    paid = averages(p, draw(relaxation, rng, count=M), rounds=T)
    real = averages(p, draw(relaxation, rng, count=M), rounds=T, by="real")
    anyone = averages(p, draw(relaxation, rng, count=M), rounds=T, by="random", rng=rng)
    delay = averages(p, draw(relax(p, delay_only=True), rng, count=M), rounds=T)
    best = averages(p, best_of(p, relaxation, rng, runs=1, count=config.best_of, rounds=T), rounds=4 * T)
    greedy = play(LastSwitch(p, sigma=0.0, best=optimum), SwitchingGreedy(), rounds=4 * T, runs=1, seed=0)
    shares = {"relaxation": relaxation.value, "rounding": float(paid.mean()), "best of many": float(best[0]),
              "rounding, real payoffs": float(real.mean()), "rounding, random candidate": float(anyone.mean()),
              "relaxation without runs": float(delay.mean()), "greedy": float(greedy.mean_RT.mean()),
              "single cycle": single_cycle(p)[0], "fixed arm": float(p[:, 0].max())}
    return {"shares": {k: v / optimum for k, v in shares.items()}, "kept": float(paid.mean()) / relaxation.value,
            "error": float(paid.std()) / M**0.5 / relaxation.value}


def family(config: LsdConfig, seeds: Seeds, *, arms: int) -> dict[str, list[float]]:
    """Part 3: the shares of the relaxation (1) with independent and with equal phases, for each group of roundings."""
    p, rng = tight(arms), seeds.child("family", arms).numpy()
    relaxation = relax(p)
    groups = (max(4 * config.roundings, 100) // 20, 20)
    paid = averages(p, draw(relaxation, rng, count=groups[0] * groups[1]), rounds=2 * arms)
    together = averages(p, draw(relaxation, rng, count=20, phases="fixed"), rounds=2 * arms)
    return {"rounding": paid.reshape(groups).mean(0).tolist(), "fixed phases": together.tolist(),
            "closed form": [1 - (1 - 1 / arms) ** arms], "relaxation": [relaxation.value]}


def trapped(config: LsdConfig, seeds: Seeds) -> dict[str, Any]:
    """Part 2."""
    p, rng = trap(), seeds.child("trap").numpy()
    paid = averages(p, draw(relax(p), rng, count=config.roundings), rounds=config.rounds)
    greedy = play(LastSwitch(p, sigma=0.0), SwitchingGreedy(), rounds=config.rounds, runs=1, seed=0)
    return {"optimum": optimal_average(p), "rounding": paid.reshape(10, -1).mean(1).tolist(),
            "greedy": float(greedy.mean_RT.mean())}


# --- 4. learning ---------------------------------------------------------------------------------------------


def learner(name: str, config: LsdConfig) -> Policy:
    """The learner of a name."""
    made: dict[str, Policy] = {
        "explore, then commit": SwitchingCommit(best_of=config.learn_best_of),
        "optimism, doubling epochs": SwitchingOptimist(best_of=config.learn_best_of),
        "block UCB": BlockUCB(), "UCB1": UCB1()}
    if name not in made:
        raise BadInput("name", expected=f"one of {', '.join(made)}", received=name)
    return made[name]


def learn(config: LsdConfig, seeds: Seeds, *, name: str, world: str, rounds: int) -> dict[str, Any]:
    """The regret of each seed against the plan with known payoffs."""
    p = trap() if world == "trap" else random_monotone(3, 3, seed=seeds.child("learning").integer())
    rng = seeds.child("comparator", world).numpy()
    known = best_of(p, relax(p), rng, runs=config.comparisons, count=config.learn_best_of)
    value = float(averages(p, known, rounds=600).mean())
    bandit = LastSwitch(p, best=value, comparator="the plan with known payoffs")
    history = play(bandit, learner(name, config), rounds=rounds, runs=config.seeds,
                   seed=seeds.child("runs", name, world, rounds).integer())
    return {"regret": [round(x, 4) for x in history.regret_RT.sum(1).tolist()], "value": value}


def slope(horizons: tuple[int, ...], regret_RH: np.ndarray) -> Interval:
    """The slope of log mean regret on log horizon, resampling seeds at each horizon; a regret below 1 counts as 1.

    Example:
        >>> T = np.array([100.0, 1000.0, 10000.0])
        >>> round(slope((100, 1000, 10000), np.stack([T**0.5, 2 * T**0.5])).mean, 6)
        0.5
    """
    x = np.log(np.array(horizons))
    x = x - x.mean()

    def fitted(sets: np.ndarray) -> np.ndarray:
        y = np.log(np.maximum(sets.mean(-2), 1.0))
        return (y * x).sum(-1) / (x * x).sum()

    return bootstrap(fitted, regret_RH, seed=0, vectorised=True)


# --- the experiment --------------------------------------------------------------------------------------


def run(config: LsdConfig, lab: Lab) -> Outcome:
    """All four parts."""
    random = {f"instance {i}": {"index": i} for i in range(config.instances)}
    equal = {f"{k} equal arms": {"arms": k} for k in config.family}
    learning = {f"{name} in {world}, {T} rounds": {"name": name, "world": world, "rounds": T}
                for world in WORLDS for name in LEARNERS for T in config.horizons}
    lab.plan(len(random) + len(equal) + len(learning) + 1)
    arms, criteria = from_instances(lab.units(instance, random))
    fell = dict(zip(config.family, lab.units(family, equal), strict=True))
    caught, = lab.units(trapped, {"trap": {}})
    regrets = {(j["world"], j["name"], j["rounds"]): r for j, r in zip(
        learning.values(), lab.units(learn, learning), strict=True)}
    for more_arms, more in (from_family(fell), from_trap(caught), from_learning(config, regrets)):
        arms, criteria = [*arms, *more_arms], [*criteria, *more]
    curves = {f"{w}: {n}": [float(np.mean(regrets[w, n, T]["regret"])) for T in config.horizons]
              for w in WORLDS for n in LEARNERS}
    return Outcome(arms=arms, criteria=criteria, data={
        "curves": curves, "horizons": list(config.horizons),
        "family": {str(k): [float(np.mean(v["rounding"])), v["closed form"][0]] for k, v in fell.items()}})


def from_instances(found: list[dict[str, Any]]) -> tuple[list[Arm], list[Criterion]]:
    """Shares of the optimum, and the guarantee on the instance where rounding kept least."""
    names = list(found[0]["shares"])
    value = {n: mean_interval([f["shares"][n] for f in found]) for n in names}
    ours = ("relaxation", "rounding", "best of many")
    arms = [Arm(name=n, metric="share of the optimum, random instances", value=value[n], baseline=n not in ours)
            for n in names]
    least = min(found, key=lambda f: f["kept"])
    worst = Interval(least["kept"], least["kept"] - 2 * least["error"], least["kept"] + 2 * least["error"], len(found))
    gain = mean_interval([f["shares"]["rounding"] - f["shares"]["relaxation without runs"] for f in found])
    return arms, [
        Criterion(says="rounding / relaxation, on the instance where it is least", value=worst, above=FLOOR),
        Criterion(says="relaxation / optimum, never below 1 and near it", value=value["relaxation"], above=1 - 1e-6,
                  below=1.1),
        Criterion(says="best of many roundings / optimum", value=value["best of many"], above=0.85),
        Criterion(says="rounding - rounding of the relaxation without runs", value=gain, above=0.0),
    ]


def from_family(fell: dict[int, dict[str, list[float]]]) -> tuple[list[Arm], list[Criterion]]:
    """Equal arms: the closed form, and its limit."""
    arms = [Arm(name=f"{name}, {k} equal arms", metric="share of the relaxation", value=mean_interval(v[name]),
                baseline=name != "rounding") for k, v in fell.items() for name in ("rounding", "fixed phases")]
    gaps = [Criterion(says=f"{k} equal arms: rounding - (1 - (1 - 1/K)^K)", above=-0.02, below=0.02,
                      value=mean_interval(np.array(v["rounding"]) - v["closed form"][0])) for k, v in fell.items()]
    last = fell[max(fell)]
    limit = Criterion(says=f"{max(fell)} equal arms: rounding is at the bound", above=FLOOR - 0.02, below=FLOOR + 0.03,
                      value=mean_interval(last["rounding"]))
    return arms, [*gaps, limit]


def from_trap(caught: dict[str, Any]) -> tuple[list[Arm], list[Criterion]]:
    """Greed takes .06 where .275 can be had."""
    share = mean_interval(np.array(caught["rounding"]) / caught["optimum"])
    greedy = caught["greedy"] / caught["optimum"]
    exact = Interval(greedy, greedy, greedy, 1)
    metric = "share of the optimum, trap"
    return [Arm(name="rounding", metric=metric, value=share), Arm(name="greedy", metric=metric, value=exact,
                                                                  baseline=True)], [
        Criterion(says="trap: rounding / optimum", value=share, above=FLOOR),
        Criterion(says="trap: greedy / optimum", value=exact, below=0.3)]


def from_learning(config: LsdConfig, regrets: dict[tuple[str, str, int], Any]) -> tuple[list[Arm], list[Criterion]]:
    """Slopes over horizons, and the regret at the last one."""
    arms, criteria, last = list[Arm](), list[Criterion](), config.horizons[-1]
    for world in WORLDS:
        for name in LEARNERS:
            table = np.array([regrets[world, name, T]["regret"] for T in config.horizons]).T
            fitted = slope(config.horizons, table)
            arms += [Arm(name=name, metric=f"slope of regret, {world}", value=fitted, baseline=name in BASELINES),
                     Arm(name=name, metric=f"regret after {last} rounds, {world}", baseline=name in BASELINES,
                         value=mean_interval(table[:, -1]))]
            if name == "UCB1":
                criteria.append(Criterion(says=f"{world}: slope of UCB1 (blind to states)", value=fitted, above=0.9))
            elif name not in BASELINES:
                criteria.append(Criterion(says=f"{world}: slope of {name}", value=fitted, below=0.9))
    return arms, criteria


# --- the figure ------------------------------------------------------------------------------------------

COLOURS = {"explore, then commit": BLUE, "optimism, doubling epochs": ORANGE, "block UCB": GREEN, "UCB1": GREY}


def drawing(result: ZooResult) -> Figure:
    """Shares of the optimum, the family at the bound, and regret over horizons."""
    figure, (left, middle, right) = panels(13.5, 4.3, columns=3, widths=[1.15, 0.9, 1.15])
    _draw_shares(left, result)
    _draw_family(middle, result)
    _draw_regret(right, result)
    return figure


def _draw_shares(axes: Axes, result: ZooResult) -> None:
    arms = [a for a in result.arms if a.metric == "share of the optimum, random instances"]
    interval_rows(axes, [a.name for a in arms], Series(values=[a.value for a in arms],
                                                       colour=[GREY if a.baseline else BLUE for a in arms]))
    axes.axvline(FLOOR, color=INK, lw=1, ls=":")
    axes.annotate("1 - 1/e ", (FLOOR, 7.2), fontsize=8, color=INK, ha="right")
    axes.set_xlabel(f"share of the optimum, {arms[0].value.n} random instances")
    title(axes, "What a schedule earns")


def _draw_family(axes: Axes, result: ZooResult) -> None:
    points = {int(k): v for k, v in result.data["family"].items()}
    axes.plot(list(points), [v[1] for v in points.values()], color=GREY, lw=2, label="1 - (1 - 1/K)^K")
    axes.plot(list(points), [v[0] for v in points.values()], "o", color=BLUE, ms=7, label="rounding")
    axes.axhline(FLOOR, color=INK, lw=1, ls=":")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(points), [str(k) for k in points])
    axes.set_ylim(0.6, 0.8)
    axes.set_xlabel("equal arms K, which pay after K - 1 rests")
    axes.set_ylabel("share of the relaxation")
    title(axes, "The family where the bound is tight")
    axes.legend(**LEGEND)


def _draw_regret(axes: Axes, result: ZooResult) -> None:
    for label, values in result.data["curves"].items():
        world, name = label.split(": ")
        axes.plot(result.data["horizons"], np.maximum(values, 1.0), "-o" if world == "trap" else "--s", ms=4,
                  color=COLOURS[name], label=name if world == "trap" else None)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rounds (solid: trap, dashed: a random instance)")
    axes.set_ylabel("regret against the plan with known payoffs")
    title(axes, "Learning")
    axes.legend(**LEGEND)


SYSTEM = System(
    number=15, name="lsd-bandits", title="Last switch dependent bandits with monotone payoffs", room="optimize",
    claim="A relaxation over cycles, rounded arm by arm into virtual states, earns at least 1 - 1/e of its value where "
          "rest helps, and just that on the worst family; greed falls into traps that it avoids; and a learner that "
          "plans so has regret of slope below 1, where one that ignores the states has slope 1.",
    scales={
        "smoke": LsdConfig(instances=3, longest=2, roundings=100, best_of=20, rounds=60, family=(2, 8),
                           horizons=(100, 300), learn_best_of=4, comparisons=20, seeds=2),
        "small": LsdConfig(),
        "paper": LsdConfig(instances=100, roundings=4000, family=(2, 4, 8, 16, 32, 50),
                           horizons=(1_000, 10_000, 100_000, 1_000_000)),
    },
    run=run, draw=drawing)
