"""48 Lucy-SKG (Moschopoulos et al. 2023, arXiv 2305.15801): does multiplying reward parts teach faster than adding?

Car soccer, one against one, PPO. (1) Goals alone; goals, events and utilities in a weighted sum; the same with the
utilities' parts combined by KRC, the signed geometric mean; the two again with weights that were tuned equally: the
same candidates, each judged by several agents over as many steps as the arms have. The utilities of every arm are
scaled to one standard deviation a step under random play, so that only the combination differs. (2) KRC with the two
auxiliary tasks, and with one switch turned at a time (`ABLATIONS`). (3) States at full speed in the wrong direction:
what does each pay?
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from plaudit.core.intervals import Interval
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.specify.soccer import UTILITY_WEIGHTS
from plaudit.zoo.contract import Arm, Criterion, Outcome, System
from plaudit.zoo.lab import Lab
from plaudit.zoo.lucy_drawing import EARLY, HELPED, MAIN, WIN, draw
from plaudit.zoo.lucy_worlds import LucyConfig, make_task, one_arm, switched, tune, wrong_direction

SCORE, FIFTY = "goals for - against, last tenth", "thousand steps to 50% wins, at most all"
TASKS: Mapping[str, tuple[str, ...]] = {"KRC + SR": ("state",), "KRC + RP": ("reward",),
                                        "KRC + SR + RP": ("state", "reward")}
FASTER = 1.3
"""How many times fewer steps KRC should need."""


def measures(config: LucyConfig, curves: Mapping[str, list[list[float]]], points: int | None = None) -> dict[
        str, np.ndarray]:
    """Each metric of the agents of an arm, [seeds]; `points` cuts the curves."""
    win, score = (np.array(curves[k])[:, :points] for k in ("win", "score"))
    tail = max(1, win.shape[1] // 10)
    per_point = config.bin * config.num_envs * config.rollout
    smooth = np.stack([np.convolve(w, np.ones(3) / 3, mode="same") for w in win])
    reached = smooth[:, 1:-1] >= 0.5 if win.shape[1] > 2 else win >= 0.5
    first = np.where(reached.any(1), reached.argmax(1) + 2, win.shape[1])
    return {WIN: win[:, -tail:].mean(1), EARLY: win[:, :max(1, win.shape[1] // 2)].mean(1),
            SCORE: score[:, -tail:].mean(1), FIFTY: first * per_point / 1000, "reached": np.asarray(reached.any(1)),
            "whole": win.mean(1)}


def steps_ratio(slow: Mapping[str, np.ndarray], fast: Mapping[str, np.ndarray], *, above: float) -> Interval:
    """Mean steps to half of the matches, slow / fast, where some runs may never get there (they are censored).

    Such runs are counted with all their steps, so this is a ratio of restricted means (Royston and Parmar 2013). The
    true ratio is larger where `slow` is censored, and smaller where `fast` is. An end of the interval that more than
    one censored run could move past `above` is left open, 0 below and infinity above: then nothing follows from it.

    Args:
        slow: `measures` of one arm.
        fast: And of the other; agents are paired.
        above: What the ratio is held against.
    """
    pairs = np.stack([slow[FIFTY], fast[FIFTY]], -1)
    ratio = bootstrap(lambda sets: sets[..., 0].mean(-1) / sets[..., 1].mean(-1), pairs, seed=0, vectorised=True)
    slow_open, fast_open = (int((~arm["reached"]).sum()) > 1 for arm in (slow, fast))
    low = 0.0 if fast_open else ratio.low
    return Interval(ratio.mean, low, math.inf if slow_open and low <= above else ratio.high, ratio.n)


def judge(found: Mapping[str, dict[str, np.ndarray]], helped: Mapping[str, dict[str, np.ndarray]],
          static: Mapping[str, float], states: int) -> list[Criterion]:
    """The sentences of the claim with their intervals, paired by seed."""
    linear, krc, sparse = found["linear"], found["KRC"], found["sparse"]
    plain = helped["KRC"]["whole"]
    gain = (helped["KRC + RP"]["whole"] - plain) / np.maximum(plain, 1e-9)
    tuned = found["KRC, tuned"][EARLY] - found["linear, tuned"][EARLY]
    never = [int((~arm["reached"]).sum()) for arm in (linear, krc)]
    share = min(static["linear, away"], 1 - static["krc, away"], static["krc, towards"])
    return [
        Criterion(says="early wins: KRC - linear", value=mean_interval(krc[EARLY] - linear[EARLY]), above=0.0),
        Criterion(says="early wins: linear - sparse", value=mean_interval(linear[EARLY] - sparse[EARLY]), above=0.0),
        Criterion(says="early wins, both tuned: KRC - linear", value=mean_interval(tuned), above=0.0),
        Criterion(says="mean steps to 50% wins, counted up to the end of the runs, linear / KRC (never there: "
                       f"{never[0]} and {never[1]} of {len(krc[FIFTY])} runs; more than one leaves an end open)",
                  value=steps_ratio(linear, krc, above=FASTER), above=FASTER),
        Criterion(says="wins with reward prediction, relative gain over KRC alone", value=mean_interval(gain),
                  above=0.0),
        Criterion(says="full speed away from the ball: the share of states where the sum pays and KRC does not",
                  value=Interval(share, share, share, states), above=0.999),
    ]


def run(config: LucyConfig, lab: Lab) -> Outcome:
    """Tuning, the arms, the auxiliaries, the ablations, the static test."""
    switches = {f"KRC, {name}": name for name in config.ablations}
    for name in config.ablations:
        make_task(switched(config, name))  # what cannot be played is known before the hours
    lab.plan(2 + len(MAIN) + len(HELPED) + len(switches) + 1)
    static, = lab.units(wrong_direction, {"static test": {}})
    bases = ["linear", "KRC"]
    tuned = dict(zip(bases, lab.units(tune, {f"tune {a}": {"arm": a} for a in bases}), strict=True))
    jobs: dict[str, dict[str, Any]] = {}
    for name in (*MAIN, *HELPED, *switches):
        base = name.split(",")[0].split(" ")[0]
        weights = tuned[base]["tried"][tuned[base]["best"]] if name.endswith("tuned") else dict(UTILITY_WEIGHTS)
        jobs[name] = {"arm": base, "weights": weights, "tasks": list(TASKS.get(name, ())),
                      "ablation": switches.get(name)}
    curves = dict(zip(jobs, lab.units(one_arm, jobs), strict=True))
    found = {name: measures(config, curves[name]) for name in MAIN}
    points = len(curves["KRC + RP"]["win"][0])
    helped = {name: measures(config, curves[name], points) for name in ("KRC", *HELPED, *switches)}
    arms = [Arm(name=name, metric=metric, value=mean_interval(values[metric]), baseline=not name.startswith("KRC"))
            for name, values in found.items() for metric in (WIN, EARLY, SCORE, FIFTY)]
    arms += [Arm(name=name, metric=f"win rate, first {config.aux_steps // 1000}k steps",
                 value=mean_interval(values["whole"]), baseline=name == "KRC") for name, values in helped.items()]
    arms += [Arm(name=f"{how} at full speed {label}", metric="share of states that are paid",
                 value=Interval(static[f"{how}, {label}"], static[f"{how}, {label}"], static[f"{how}, {label}"],
                                config.static_states), baseline=how == "linear")
             for label in ("away", "towards") for how in ("linear", "krc")]
    return Outcome(arms=arms, criteria=judge(found, helped, static, config.static_states), data={
        "win": {name: [[round(x, 4) for x in row] for row in c["win"]] for name, c in curves.items()},
        "steps_per_point": config.bin * config.num_envs * config.rollout, "tuned": tuned,
        "reached": {name: int(values["reached"].sum()) for name, values in found.items()}})


SYSTEM = System(
    number=48, name="lucy-skg-krc", title="Lucy-SKG: kinesthetic reward combination", room="specify",
    claim="With the same parts at the same scale, agents whose reward multiplies them (KRC) win earlier than agents "
          "whose reward adds them, and these earlier than agents paid for goals alone: at least 1.3 times fewer steps "
          "to half of the matches; predicting the reward beside it helps; and KRC does not pay full speed in the wrong "
          "direction, where the sum does.",
    scales={
        "smoke": LucyConfig(seeds=2, steps=512, aux_steps=256, candidates=2, tune_seeds=2, tune_steps=256,
                            num_envs=4, rollout=64, epochs=1, matched_rows=4, matched_steps=30, static_states=100,
                            bin=1, ablations=()),
        "small": LucyConfig(),
        "paper": LucyConfig(seeds=5, world="rocket league", steps=1_000_000_000, aux_steps=1_000_000_000, num_envs=256,
                            rollout=400, candidates=16, tune_steps=50_000_000, epochs=3, lr=3e-4, network="attention",
                            past_actions=5, spirit=0.3,
                            ablations=("any touch", "plain distances", "utilities as they are")),
    },
    run=run, draw=draw, any_device=True)
