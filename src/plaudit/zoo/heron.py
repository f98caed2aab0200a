"""HERON: rank the factors of a reward by importance, and let a decision tree prefer (Bukharin et al. 2023).

Three experiments. (1) Continuous control (Pendulum, MountainCarContinuous): agents on a reward model that follows
the ranking, against a grid of linear weights, the true reward, factors in other units, and the ranking reversed.
(2) A maze whose goal pays alone: ranking the distance below the goal gives agents what the sparse reward lacks.
(3) Tiny models that write sums: hits the target > parses > short.

Choices where the paper leaves them open, or is not followed: SAC stands for DDPG, on its replay scored anew with the
model as it is; the model is the step reward and never a value target; the car's second factor is the mechanical
energy that it still lacks, so that something can be learnt before the goal is first seen; where episodes end when
solved, the best step seen pays 0 (`standardise="top"`), or lingering near the goal would pay. The linear grid has the
same factors, each in units of its spread under random actions, with weights of 0.1, 1 and 10 relative to the first.
The reversed ranking is a control where factors disagree; in the maze "near the goal, then at it" asks for the same,
so it is shown there and not judged. Agents are judged once more where gravity, the motor or the footing is another than
they learnt with (the paper changes the traffic); that too is shown and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.core.statistics import Interval, difference_interval, mean_interval
from plaudit.learn.bradley_terry import Standard
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREY, INK, LEGEND, ORANGE, Series, interval, interval_rows, panels, title
from plaudit.zoo.heron_text import write
from plaudit.zoo.heron_worlds import UNITS, WORLDS, World, control, grid, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from plaudit.zoo.lab import Lab

LINEAR, BEST, MEAN, MEDIAN = "linear", "linear, best weights", "linear, mean of the grid", "linear, median of the grid"
OTHER, REVERSED, TRUE, RANKED = "HERON, other units", "HERON, reversed", "true reward", "HERON"
BEST_OTHER, SPARSE = "linear, best weights, other units", "sparse reward"


@dataclass(frozen=True, kw_only=True)
class HeronConfig:
    """How large the experiment is, and the method's switches."""

    seeds: int = 5
    """Agents of each arm."""
    steps: tuple[int, ...] = (20_000, 20_000, 61_440)
    """Steps of each agent in Pendulum, MountainCarContinuous and the maze."""
    horizons: tuple[int, ...] = (200, 999, 45)
    """Steps of an episode there."""
    episodes: int = 10
    """Evaluation episodes of each agent."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the agents."""
    batch: int = 64
    """Transitions in an update of an agent."""
    lr: float = 1e-3
    """Step size of the agents."""
    update_ratio: float = 0.25
    """Updates for each step of the environment."""
    warmup: int = 1000
    """Random steps of each agent before its first update; the first round of comparisons comes half way."""
    reward_hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the reward model."""
    reward_lr: float = 1e-3
    """Its step size."""
    reward_batch: int = 120
    """Pairs in its batch."""
    reward_updates: int = 16
    """Its updates in a round."""
    every: int = 400
    """Steps between two rounds."""
    batches: int = 16
    """Batches of 16 fragments in a round; all pairs of each are compared."""
    recent: int = 1000
    """Of how many steps of each environment fragments are drawn."""
    fragment: int = 1
    """Steps of a fragment (1: transitions, as the paper's code does)."""
    ensemble: int = 1
    """Reward networks of each agent; their mean is paid."""
    margins: tuple[tuple[float, ...], ...] = ((1.0, 1.0, 1.0), (0.0, 0.1, 1.0), (0.0, 0.0), (0.0, 0.0, 0.0))
    """c_l in Pendulum, MountainCarContinuous, the maze and the texts: in standard deviations, what is no difference."""
    factors: tuple[int, ...] = (3, 3, 2, 3)
    """How many factors count there, from the most important one; the outcomes of all are shown."""
    standardise: tuple[Standard, ...] = ("mean", "top", "top", "mean")
    """What the outputs of the reward models are made comparable by there."""
    algos: tuple[str, ...] = ("sac", "sac", "ppo")
    """What the agents learn by in the three worlds: sac, td3, ddpg or ppo; in the maze ppo or dqn."""
    changed: tuple[float, ...] = (13.0, 0.8, 0.1)
    """Where trained agents are judged once more: gravity in m/s^2 (learnt at 10), the power of the car's motor as a
    share of that which it learnt with, the chance to slip in the maze. () leaves that out."""
    gaps: tuple[float, ...] = ()
    """By how much each level has to win in the loss; () asks for no margin."""
    level_scale: tuple[float, ...] = ()
    """alpha of each level in the loss; () is 1."""
    text_pretrain: int = 300
    """Updates by which the writers first learn to write like a corpus with faults."""
    text_updates: int = 200
    """Policy updates of the writers."""
    text_batch: int = 128
    """Texts in an update."""
    text_hidden: int = 64
    """Hidden units of the writers."""
    text_lr: float = 3e-3
    """Their step size."""
    text_entropy: float = 0.1
    """The weight of their entropy."""
    text_every: int = 2
    """Policy updates between two rounds of the judge."""
    text_target: int = 24
    """What a sum has to come to."""

    def __post_init__(self) -> None:
        for name in ("steps", "horizons", "algos", *(("changed",) if self.changed else ())):
            if len(getattr(self, name)) != len(WORLDS):
                raise BadInput(f"config.{name}", expected=f"one entry for each of {', '.join(WORLDS)}",
                               received=getattr(self, name))
        for name in ("margins", "factors", "standardise"):
            if len(getattr(self, name)) != len(WORLDS) + 1:
                raise BadInput(f"config.{name}", expected=f"one entry for each of {', '.join(WORLDS)} and the texts",
                               received=getattr(self, name))
        most = [*(len(place.measures) for place in WORLDS.values()), 3]
        if any(not 2 <= n <= m for n, m in zip(self.factors, most, strict=True)):
            raise BadInput("config.factors", expected=f"2 factors or more, and at most {most}", received=self.factors)
        if any(len(c) < n for c, n in zip(self.margins, self.factors, strict=True)):
            raise BadInput("config.margins", expected=f"a number for each of {self.factors} factors",
                           received=self.margins)
        for world, algo in zip(WORLDS, self.algos, strict=True):
            known = ("ppo", "dqn") if world == "Maze" else ("sac", "td3", "ddpg", "ppo")
            if algo not in known:
                raise BadInput("config.algos", expected=f"one of {', '.join(known)} for {world}", received=algo)


# --- the experiment ----------------------------------------------------------------------------------------


def linear_weights(place: World, factors: int | None = None) -> dict[str, list[float]]:
    """Weights over the raw factors and the environment's reward, by arm: the grid, the truth, the goal alone."""
    count = len(place.measures) if factors is None else factors
    out = {f"{LINEAR} 1 : " + " : ".join(f"{w:g}" for w in relative[1:]):
           [*(w / s for w, s in zip(relative, place.spreads[:count], strict=True)), 0.0]
           for relative in grid(count)}
    out[TRUE] = [0.0] * count + [1.0]
    return out


def run(config: HeronConfig, lab: Lab) -> Outcome:
    """All three experiments."""
    tables = {world: linear_weights(WORLDS[world], n) for world, n in zip(WORLDS, config.factors[:-1], strict=True)}
    jobs = {f"{world}, {arm}": {"world": world, "arm": arm, **({"weights": list(tables[world].values())}
                                                               if arm == LINEAR else {})}
            for world in WORLDS for arm in (LINEAR, RANKED, OTHER, REVERSED) if arm != OTHER or world != "Maze"}
    relative = grid(config.factors[-1])
    sparse = [1.0] + [0.0] * (config.factors[-1] - 1)
    texts = {f"text, {arm}": {"arm": arm, **({"weights": [*map(list, relative), sparse]}
                                             if arm == LINEAR else {})} for arm in (LINEAR, RANKED, REVERSED)}
    lab.plan(len(jobs) + len(texts) + 2)
    found = dict(zip(jobs, lab.units(control, jobs), strict=True))
    wrote = dict(zip(texts, lab.units(write, texts), strict=True))
    arms, criteria, data = list[Arm](), list[Criterion](), dict[str, Any]()
    for world, place in WORLDS.items():
        parts = {arm: found[f"{world}, {arm}"] for arm in (LINEAR, RANKED, OTHER, REVERSED)
                 if f"{world}, {arm}" in found}
        names = list(tables[world])
        if world != "Maze":
            best = _best(parts[LINEAR]["return"][:-1])
            again = {f"{world}, {BEST_OTHER}": {"world": world, "arm": "linear, other units",
                                                "weights": [list(tables[world].values())[best]]}}
            parts[BEST_OTHER] = lab.units(control, again)[0]
        more, judged = _of_world(world, place, names, parts)
        if config.changed:
            more += _elsewhere(world, names, parts, f"{config.changed[list(WORLDS).index(world)]:g} {place.change}")
        arms, criteria = [*arms, *more], [*criteria, *judged]
        data[world] = {"grid": {n: [float(np.mean(v))] for n, v in zip(names, parts[LINEAR]["return"], strict=True)}}
    more, judged = _of_text([*(" : ".join(f"{w:g}" for w in r) for r in relative), SPARSE], wrote)
    return Outcome(arms=[*arms, *more], criteria=[*criteria, *judged], data=data)


def _best(values: Sequence[Sequence[float]]) -> int:
    return int(np.argmax([np.mean(v) for v in values]))


def _by_arm(names: Sequence[str], parts: Mapping[str, Any], metric: str, best: int) -> dict[str, list[float]]:
    """The seeds of every arm that is compared; `best` of the grid is chosen by the true return."""
    table = parts[LINEAR][metric]
    points = table[:-1]
    middle = sorted(range(len(points)), key=lambda i: float(np.mean(parts[LINEAR]["return"][i])))[len(points) // 2]
    out = {RANKED: parts[RANKED][metric][0], names[-1]: table[-1], BEST: points[best],
           MEAN: np.mean(points, 0).tolist(), MEDIAN: points[middle]}
    for arm in (REVERSED, OTHER, BEST_OTHER):
        if metric in parts.get(arm, ()):
            out[arm] = parts[arm][metric][0]
    return out


def _elsewhere(world: str, names: Sequence[str], parts: Mapping[str, Any], circumstances: str) -> list[Arm]:
    """How agents that learnt in the world as it is fare in other circumstances; weights were chosen before."""
    names = [*names[:-1], SPARSE] if world == "Maze" else names
    found = _by_arm(names, parts, "return, changed", _best(parts[LINEAR]["return"][:-1]))
    return [Arm(name=arm, metric=_changed(world), value=mean_interval(values), note=circumstances,
                baseline=not arm.startswith("HERON")) for arm, values in found.items()]


def _changed(world: str) -> str:
    return f"{world}, changed: true return"


def _of_world(world: str, place: World, names: Sequence[str],
              parts: Mapping[str, Any]) -> tuple[list[Arm], list[Criterion]]:
    names = [*names[:-1], SPARSE] if world == "Maze" else names
    best = _best(parts[LINEAR]["return"][:-1])
    arms: list[Arm] = []
    for metric in ("return", *place.measures):
        for arm, values in _by_arm(names, parts, metric, best).items():
            arms.append(Arm(name=arm, metric=f"{world}: true return" if metric == "return" else f"{world}: {metric}",
                            value=mean_interval(values), baseline=not arm.startswith("HERON"),
                            note=names[best] if arm == BEST else ""))
    scores = {arm: score(place, v) for arm, v in _by_arm(names, parts, "return", best).items()}
    gap = lambda a, b: difference_interval(scores[a], scores[b])  # noqa: E731
    criteria = [Criterion(says=f"{world}: score of HERON less the best of {len(names) - 1} linear weights",
                          value=gap(RANKED, BEST), above=-0.15)]
    if world == "Maze":
        return arms, [*criteria, Criterion(says="Maze: HERON less the sparse reward", value=gap(RANKED, SPARSE),
                                           above=0.0)]
    moved = float(np.abs(np.subtract(scores[RANKED], scores[OTHER])).max())
    return arms, [
        *criteria, Criterion(says=f"{world}: HERON less the reversed ranking", value=gap(RANKED, REVERSED), above=0.0),
        Criterion(says=f"{world}: HERON less the median of the grid", value=gap(RANKED, MEDIAN), above=0.0),
        Criterion(says=f"{world}: what {UNITS:g} times smaller units change in HERON, largest of all seeds",
                  value=Interval(moved, moved, moved, len(scores[RANKED])), below=0.02),
        Criterion(says=f"{world}: the same units take from the best linear weights", value=gap(BEST, BEST_OTHER),
                  above=0.0)]


def _of_text(names: Sequence[str], wrote: Mapping[str, Any]) -> tuple[list[Arm], list[Criterion]]:
    parts = {arm.removeprefix("text, "): value for arm, value in wrote.items()}
    best = _best(parts[LINEAR]["hits"][:-1])
    parts[LINEAR]["return"] = parts[LINEAR]["hits"]
    arms: list[Arm] = []
    by_metric = {m: _by_arm(names, parts, m, best) for m in ("hits", "parses", "length of hits")}
    for metric, values in by_metric.items():
        arms += [Arm(name=arm, metric=f"Text: {metric}", value=mean_interval(v), baseline=not arm.startswith("HERON"),
                     note=f"{LINEAR} {names[best]}" if arm == BEST else "") for arm, v in values.items()]
    hits = by_metric["hits"]
    gap = lambda a, b: difference_interval(hits[a], hits[b])  # noqa: E731
    return arms, [
        Criterion(says=f"Text: share of hits, HERON less the best of {len(names) - 1} linear weights",
                  value=gap(RANKED, BEST), above=-0.15),
        Criterion(says="Text: HERON less the median of the grid", value=gap(RANKED, MEDIAN), above=0.0),
        Criterion(says="Text: HERON less the reversed ranking", value=gap(RANKED, REVERSED), above=0.0)]


# --- the figure --------------------------------------------------------------------------------------------

SHOWN = {RANKED: BLUE, OTHER: BLUE, REVERSED: ORANGE, TRUE: INK, SPARSE: INK, BEST: GREY, BEST_OTHER: GREY,
         MEDIAN: GREY, MEAN: GREY}


def draw(result: ZooResult) -> Figure:
    """Each world's arms with their intervals."""
    figure, places = panels(13.5, 6.6, rows=2, columns=2, grid="x")
    titles = {"Pendulum: true return": "Pendulum: true return", "MountainCar: true return":
              "Mountain car: true return", "Maze: goal": "Maze: share of episodes that reach the goal",
              "Text: hits": "Sums: share of texts that come to the target"}
    for axes, (metric, about) in zip(places, titles.items(), strict=True):
        _draw_arms(axes, result, metric)
        title(axes, about)
    return figure


def _draw_arms(axes: Axes, result: ZooResult, metric: str) -> None:
    arms = {a.name: a for a in result.arms if a.metric == metric}
    order = [name for name in SHOWN if name in arms]
    interval_rows(axes, order, Series(values=[arms[n].value for n in order], colour=[SHOWN[n] for n in order]))
    elsewhere = {a.name: a for a in result.arms if a.metric == _changed(metric.split(":")[0])}
    for y, name in enumerate(reversed(order)):
        if name in elsewhere:
            about = f"judged at {elsewhere[name].note}" if name == RANKED else None
            interval(axes, elsewhere[name].value, y - 0.26, colour=SHOWN[name], hollow=True, label=about)
        value = arms[name].value
        shown = f"{value.mean:.0f}" if abs(value.mean) >= 20 else f"{value.mean + 0.0:.2f}"
        axes.annotate(shown, (value.mean, y), xytext=(0, 6), textcoords="offset points", ha="center",
                      fontsize=7.5, color=INK)
    if elsewhere:
        axes.legend(**LEGEND, loc="best")
    axes.set_ylim(-0.6, len(order) - 0.2)
    if "return" not in metric:
        axes.set_xlim(-0.05, 1.05)  # a share, whatever a stretched interval says
    axes.set_xlabel(f"mean over {result.seeds} seeds, 95% interval")


SYSTEM = System(
    number=36, name="heron", title="HERON: rewards from a ranking of factors", room="learn",
    claim="A reward model fitted to preferences that a ranking of factors decides trains agents about as well as the "
          "best of a grid of linear weights, better than the grid's median, without tuning and whatever the units of "
          "the factors; and it gives agents a way to a sparse top factor that they do not find by itself.",
    scales={
        "smoke": HeronConfig(seeds=2, steps=(200, 200, 512), horizons=(50, 50, 20), episodes=1, hidden=(8,), batch=8,
                             update_ratio=0.1, warmup=100, every=100, reward_hidden=(8,), batches=1,
                             reward_updates=2, text_pretrain=4, text_updates=4, text_batch=16, text_hidden=8,
                             margins=((0.5, 0.5), (0.0, 0.1, 1.0), (0.0, 0.0), (0.0, 0.0)), factors=(2, 3, 2, 2),
                             standardise=("scale", "top", "none", "scale"), algos=("ddpg", "sac", "ppo")),
        "small": HeronConfig(),
        "paper": HeronConfig(steps=(30_000, 100_000, 200_000), hidden=(256, 256), batch=256, update_ratio=1.0,
                             reward_hidden=(256, 256), episodes=50, text_updates=2000, text_hidden=256),
    },
    run=run, draw=draw, any_device=True)
