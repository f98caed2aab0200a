"""48 Lucy-SKG (Moschopoulos et al. 2023, arXiv 2305.15801): does multiplying reward parts teach faster than adding?

Car soccer, one against one, PPO. (1) Goals alone; goals, events and utilities in a weighted sum; the same with the
utilities' parts combined by KRC, the signed geometric mean; the two again with weights that were tuned equally. The
utilities of every arm are scaled to one standard deviation a step under random play, so that only the combination
differs. (2) KRC with the two auxiliary tasks. (3) States at full speed in the wrong direction: what does each pay?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from plaudit.core.algebra import PerMember
from plaudit.core.episodes import Episodes
from plaudit.core.intervals import Interval
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.optimize.rl.auxiliary import Auxiliary
from plaudit.optimize.rl.auxiliary_heads import RewardPrediction, StateReconstruction
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.ppo import PPOConfig
from plaudit.optimize.rl.train import train
from plaudit.specify import event, utility
from plaudit.specify.soccer import (
    DEMOLITION_WEIGHTS,
    EVENT_WEIGHTS,
    UTILITY_WEIGHTS,
    Pitch,
    events,
    utilities,
    utility_terms,
)
from plaudit.tasks.base import Task
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, Series, band, interval_rows, panels, title
from plaudit.zoo.lab import Lab

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIN, EARLY, SCORE, FIFTY = ("win rate, last tenth", "win rate, first half", "goals for - against, last tenth",
                            "thousand steps to 50% wins")
GOALS: Mapping[str, float] = {"goal": 10.0, "concede": -3.0}
MAIN = ("sparse", "linear", "KRC", "linear, tuned", "KRC, tuned")
HELPED: Mapping[str, tuple[str, ...]] = {"KRC + SR": ("state",), "KRC + RP": ("reward",),
                                         "KRC + SR + RP": ("state", "reward")}


@dataclass(frozen=True, kw_only=True)
class LucyConfig:
    """Options of the experiment."""

    seeds: int = 5
    """Agents of each arm, trained side by side."""
    steps: int = 1_000_000
    """Steps of each agent of the main arms."""
    aux_steps: int = 250_000
    """Steps of each agent with auxiliary tasks; compared with the same steps of KRC without."""
    world: Literal["car soccer", "rocket league"] = "car soccer"
    """The 2-D game, or RocketSim (extra `rocket`)."""
    opponent: str = "chaser"
    """The scripted car."""
    dense: float = 1.5
    """Standard deviation of the utilities' gain in a step under random play, beside a goal that pays 10."""
    candidates: int = 6
    """Weightings that are tried for each tuned arm, the published one among them."""
    tune_steps: int = 200_000
    """Steps of each candidate."""
    num_envs: int = 16
    """Matches of each agent."""
    rollout: int = 128
    """Steps of each match between two updates."""
    epochs: int = 5
    """Passes over a rollout."""
    lr: float = 1e-3
    """Step size."""
    w_state: float = 0.1
    """w_SR, the weight of rebuilding the observation."""
    w_reward: float = 0.1
    """w_RP, the weight of foreseeing the sign of the reward."""
    matched_rows: int = 64
    """Random matches over which the standard deviation is measured."""
    matched_steps: int = 300
    """The longest of them."""
    static_states: int = 2000
    """States of the static test."""
    bin: int = 10
    """Updates that make one point of a curve."""


# --- the parts --------------------------------------------------------------------------------------------


def make_task(config: LucyConfig) -> Task:
    """The game."""
    if config.world == "rocket league":
        from plaudit.tasks.rocket import RocketLeague

        return RocketLeague(opponent=config.opponent)
    from plaudit.tasks.car_soccer import CarSoccer

    return CarSoccer(opponent=config.opponent)


def random_matches(config: LucyConfig, task: Task, seeds: Seeds) -> Episodes:
    """Matches of an agent that acts at random."""
    seeds = seeds.child("matching")
    return rollout(task, RandomPolicy(task.action_space, seeds=seeds.child("policy").integer()),
                   seeds=[seeds.child("match", i).integer() for i in range(config.matched_rows)],
                   max_steps=config.matched_steps)


def reward_of(task: Any, arm: str, weights: Mapping[str, float], *, dense: float, reference: Episodes) -> Reward:
    """Goals alone, or goals and events and utilities; see the module's docstring."""
    pitch = Pitch.of(task)
    if arm == "sparse":
        return events(pitch, weights=GOALS)
    combine = "krc" if arm.startswith("KRC") else "linear"
    gained = utility(utilities(pitch, combine=combine, weights=weights), form="gain")
    spread = float(gained(reference)[reference.mask].std())
    happened = {**EVENT_WEIGHTS, **(DEMOLITION_WEIGHTS if "demolish" in reference.info else {})}
    return events(pitch, weights=happened) + (dense / spread) * gained


def candidates(config: LucyConfig, seeds: Seeds) -> list[dict[str, float]]:
    """Weightings around the published ones, each weight times e^u, u uniform in [-ln 4, ln 4]; the first is theirs."""
    rng = seeds.child("candidates").numpy()
    drawn = [{n: w * math.exp(rng.uniform(-math.log(4), math.log(4))) for n, w in UTILITY_WEIGHTS.items()}
             for _ in range(config.candidates - 1)]
    return [dict(UTILITY_WEIGHTS), *drawn]


class Curves(Callback):
    """Win rate and score of each member, over the matches that ended in each update."""

    def __init__(self) -> None:
        self.rows: list[list[list[float]]] = []

    def on_update(self, metrics: dict[str, torch.Tensor], trainer: Any) -> None:
        self.rows.append([metrics["episode/watch/win"].tolist(), metrics["episode/env_return"].tolist()])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = state["rows"]


def play(config: LucyConfig, task: Task, rewards: Sequence[Reward], seed: int, steps: int,
         auxiliaries: Sequence[Auxiliary] = ()) -> dict[str, list[list[float]]]:
    """Trains one agent on each reward, side by side; the curves [member][point]."""
    curves = Curves()
    ppo = PPOConfig(num_envs=config.num_envs, rollout=config.rollout, epochs=config.epochs, minibatches=4,
                    lr=config.lr, anneal_lr=False, discount=0.99, entropy_coef=0.005, scale_reward=True)
    same = all(r is rewards[0] for r in rewards)
    train("ppo", task, reward=rewards[0] if same else PerMember(rewards), population=len(rewards), steps=steps,
          seed=seed, config=ppo, callbacks=[curves], progress=False, auxiliaries=list(auxiliaries),
          others=[event("info:goal", name="win").with_role("watch")])
    raw = np.array(curves.rows)  # [update, win or score, member]
    points = max(1, len(raw) // config.bin)
    binned = np.stack([_mean(part) for part in np.array_split(raw, points)])
    return {"win": binned[:, 0].T.tolist(), "score": binned[:, 1].T.tolist()}


def _mean(part: np.ndarray) -> np.ndarray:
    """The mean over updates in which a match ended; 0 wins and no goals where none did."""
    here = np.isfinite(part)
    return np.where(here, part, 0.0).sum(0) / np.maximum(here.sum(0), 1)


def tune(config: LucyConfig, seeds: Seeds, *, arm: str) -> dict[str, Any]:
    """The weighting under which an agent of its own wins most in the last third."""
    task = make_task(config)
    reference = random_matches(config, task, seeds)
    tried = candidates(config, seeds)
    rewards = [reward_of(task, arm, w, dense=config.dense, reference=reference) for w in tried]
    curves = play(config, task, rewards, seeds.child("tune").integer(), config.tune_steps)
    late = [float(np.mean(c[-max(1, len(c) // 3):])) for c in curves["win"]]
    return {"weights": tried[int(np.argmax(late))], "wins": late, "best": int(np.argmax(late))}


def one_arm(config: LucyConfig, seeds: Seeds, *, arm: str, weights: Mapping[str, float],
            tasks: Sequence[str]) -> dict[str, list[list[float]]]:
    """The curves of all agents of an arm; agent s begins alike in every arm."""
    task = make_task(config)
    reward = reward_of(task, arm, weights, dense=config.dense, reference=random_matches(config, task, seeds))
    heads: list[Auxiliary] = []
    if "state" in tasks:
        heads.append(StateReconstruction(weight=config.w_state))
    if "reward" in tasks:
        heads.append(RewardPrediction(weight=config.w_reward))
    return play(config, task, [reward] * config.seeds, seeds.child("train").integer(),
                config.aux_steps if tasks else config.steps, heads)


# --- (3) the static test ----------------------------------------------------------------------------------


def wrong_direction(config: LucyConfig, seeds: Seeds) -> dict[str, float]:
    """Behind the ball, in line with the goal, near, and at full speed away from it: the share that each pays."""
    task: Any = make_task(config)
    pitch, rng = Pitch.of(task), seeds.child("static").numpy()
    n, size = config.static_states, task.obs_space.shape[0]
    goal = np.array(pitch.goal)
    ball = np.zeros((n, len(goal)))
    ball[:, :2] = rng.uniform(-0.5, 0.5, size=(n, 2)) * np.abs(goal).max()
    way = (goal - ball) / np.linalg.norm(goal - ball, axis=1, keepdims=True)
    near = pitch.contact + rng.uniform(0.0, 0.3, size=(n, 1)) * pitch.car_speed
    obs = np.zeros((n, size), dtype=np.float32)

    def put(name: str, values: np.ndarray) -> None:
        obs[:, list(task.columns[name])] = values / task.units[name]

    put("ball_position", ball)
    put("car_position", ball - near * way)
    found = {}
    for label, sign in (("away", -1.0), ("towards", 1.0)):
        put("car_velocity", sign * pitch.car_speed * way)
        x = torch.from_numpy(obs.copy())
        e = Episodes.of_transitions(obs=x, action=torch.zeros(n), next_obs=x)
        for combine in ("linear", "krc"):
            paid = utility_terms(pitch, combine=combine)["offensive potential"](e)
            found[f"{combine}, {label}"] = float((paid > 0).double().mean())
    return found


# --- the numbers ------------------------------------------------------------------------------------------


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


def judge(found: Mapping[str, dict[str, np.ndarray]], helped: Mapping[str, dict[str, np.ndarray]],
          static: Mapping[str, float], states: int) -> list[Criterion]:
    """The sentences of the claim with their intervals, paired by seed."""
    linear, krc, sparse = found["linear"], found["KRC"], found["sparse"]
    ratio = mean_interval(linear[FIFTY] / krc[FIFTY])
    if not (linear["reached"] | krc["reached"]).any():
        ratio = Interval(math.nan, math.nan, math.nan, len(krc[FIFTY]))
    plain = helped["KRC"]["whole"]
    gain = (helped["KRC + RP"]["whole"] - plain) / np.maximum(plain, 1e-9)
    share = min(static["linear, away"], 1 - static["krc, away"], static["krc, towards"])
    return [
        Criterion(says="early wins: KRC - linear", value=mean_interval(krc[EARLY] - linear[EARLY]), above=0.0),
        Criterion(says="early wins: linear - sparse", value=mean_interval(linear[EARLY] - sparse[EARLY]), above=0.0),
        Criterion(says="steps to 50% wins, linear / KRC (runs that never do count with all their steps)", value=ratio,
                  above=1.3),
        Criterion(says="wins with reward prediction, relative gain over KRC alone", value=mean_interval(gain),
                  above=0.0),
        Criterion(says="full speed away from the ball: the share of states where the sum pays and KRC does not",
                  value=Interval(share, share, share, states), above=0.999),
    ]


def run(config: LucyConfig, lab: Lab) -> Outcome:
    """Tuning, the arms, the auxiliaries, the static test."""
    lab.plan(2 + len(MAIN) + len(HELPED) + 1)
    static, = lab.units(wrong_direction, {"static test": {}})
    bases = ["linear", "KRC"]
    tuned = dict(zip(bases, lab.units(tune, {f"tune {a}": {"arm": a} for a in bases}), strict=True))
    jobs: dict[str, dict[str, Any]] = {}
    for name in (*MAIN, *HELPED):
        base = name.split(",")[0].split(" ")[0]
        weights = tuned[base]["weights"] if name.endswith("tuned") else dict(UTILITY_WEIGHTS)
        jobs[name] = {"arm": base, "weights": weights, "tasks": list(HELPED.get(name, ()))}
    curves = dict(zip(jobs, lab.units(one_arm, jobs), strict=True))
    found = {name: measures(config, curves[name]) for name in MAIN}
    points = len(curves["KRC + RP"]["win"][0])
    helped = {name: measures(config, curves[name], points) for name in ("KRC", *HELPED)}
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


# --- the figure -------------------------------------------------------------------------------------------

COLOURS = {"sparse": GREY, "linear": ORANGE, "KRC": BLUE, "linear, tuned": ORANGE, "KRC, tuned": BLUE,
           "KRC + SR": GREEN, "KRC + RP": ORANGE, "KRC + SR + RP": INK}


def draw(result: ZooResult) -> Figure:
    """Learning curves of the main arms, their early wins, and the auxiliaries."""
    figure, (left, middle, right) = panels(13.5, 4.3, columns=3, widths=[1.3, 1.0, 1.0])
    _draw_curves(left, result, MAIN)
    title(left, "Goals alone, a sum, a geometric mean")
    _draw_early(middle, result)
    _draw_curves(right, result, ("KRC", *HELPED), cut=len(result.data["win"]["KRC + RP"][0]))
    title(right, "With auxiliary tasks")
    return figure


def _draw_curves(axes: Axes, result: ZooResult, names: Sequence[str], cut: int | None = None) -> None:
    for name in names:
        win = np.array(result.data["win"][name], dtype=float)[:, :cut]
        steps = (np.arange(win.shape[1]) + 0.5) * result.data["steps_per_point"] / 1000
        band(axes, steps, np.nanmean(win, 0), np.nanmin(win, 0), np.nanmax(win, 0), colour=COLOURS[name],
             ls="--" if name.endswith("tuned") else "-", label=name)
    if cut is None:
        axes.axhline(0.5, color=GREY, lw=0.8, ls=":")
    axes.set_xlabel("thousand steps of each agent")
    axes.set_ylabel(f"matches won (mean and range of {result.seeds} agents)")
    axes.set_ylim(0, None)
    axes.legend(**LEGEND, loc="lower right", ncols=2)


def _draw_early(axes: Axes, result: ZooResult) -> None:
    markers = {EARLY: "o", WIN: "s"}
    interval_rows(axes, MAIN, *(
        Series(values=[result.arm(name, metric).value for name in MAIN], colour=[COLOURS[n] for n in MAIN],
               marker=marker) for metric, marker in markers.items()))
    for metric, marker in markers.items():
        axes.plot([], [], marker, color=INK, ms=6, label=metric)
    axes.set_ylim(-0.6, len(MAIN) + 0.2)
    axes.set_xlabel("matches won, 95% intervals")
    title(axes, "Early and late")
    axes.legend(**LEGEND, loc="upper left")


SYSTEM = System(
    number=48, name="lucy-skg-krc", title="Lucy-SKG: kinesthetic reward combination", room="specify",
    claim="With the same parts at the same scale, agents whose reward multiplies them (KRC) win earlier than agents "
          "whose reward adds them, and these earlier than agents paid for goals alone: at least 1.3 times fewer steps "
          "to half of the matches; predicting the reward beside it helps; and KRC does not pay full speed in the wrong "
          "direction, where the sum does.",
    scales={
        "smoke": LucyConfig(seeds=2, steps=512, aux_steps=256, candidates=2, tune_steps=256, num_envs=4, rollout=64,
                            epochs=1, matched_rows=4, matched_steps=30, static_states=100, bin=1),
        "small": LucyConfig(),
        "paper": LucyConfig(world="rocket league", steps=1_000_000_000, aux_steps=1_000_000_000, num_envs=256,
                            rollout=400, candidates=16, tune_steps=50_000_000, epochs=3, lr=3e-4),
    },
    run=run, draw=draw)
