"""What the Lucy-SKG experiment trains: its options, the game, the rewards of its arms, tuning, and the static test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from plaudit.core.algebra import PerMember
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.optimize.rl.auxiliary import Auxiliary
from plaudit.optimize.rl.auxiliary_heads import RewardPrediction, StateReconstruction
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.ppo import PPOConfig
from plaudit.optimize.rl.train import train
from plaudit.specify import event, utility
from plaudit.specify.match import versus
from plaudit.specify.soccer import (
    DEMOLITION_WEIGHTS,
    EVENT_WEIGHTS,
    UTILITY_WEIGHTS,
    Nearness,
    Pitch,
    events,
    utilities,
    utility_terms,
)
from plaudit.tasks.base import Task
from plaudit.tasks.past_actions import PastActions
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

Curve = dict[str, list[list[float]]]
"""`win` and `score` of each agent, [agent][point]."""
GOALS: Mapping[str, float] = {"goal": 10.0, "concede": -3.0}


@dataclass(frozen=True, kw_only=True)
class LucyConfig:
    """Options of the experiment."""

    seeds: int = 8
    """Agents of each arm, trained side by side."""
    steps: int = 2_000_000
    """Steps of each agent of the main arms."""
    aux_steps: int = 500_000
    """Steps of each agent with auxiliary tasks or a switch turned; compared with the same steps of KRC."""
    world: Literal["car soccer", "rocket league"] = "car soccer"
    """The 2-D game, or RocketSim (extra `rocket`)."""
    opponent: str = "chaser"
    """The scripted car."""
    dense: float = 1.5
    """Standard deviation of what the utilities pay in a step of random play, beside a goal that pays 10."""
    candidates: int = 5
    """Weightings that are tried for each tuned arm, the published one among them."""
    tune_seeds: int = 3
    """Agents that judge each candidate; none of them is among those of the arms."""
    tune_steps: int = 2_000_000
    """Steps of each of them."""
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
    directed: bool = True
    """Whether a touch is paid for the acceleration of the ball towards the goal, or for any."""
    w_dis: float = 1.1
    """Dispersion of the distance from car to ball."""
    w_den: float = 1.1
    """Its density, in the offensive potential."""
    w_dis_goal: float = 0.6
    """Dispersion of the distance from ball to goal."""
    w_dis_own: float = 0.4
    """And to one's own goal."""
    form: Literal["gain", "difference", "state"] = "gain"
    """How utilities pay: what a step gained, as a potential that pays back at the end, or the state as it is."""
    form_discount: float = 1.0
    """Of `gain` and `difference`; 0.99, the learner's, leaves the optimal policies of `difference` alone."""
    spirit: float | None = None
    """tau of team spirit, in which the opponent's reward is taken off; None is each player's own reward. With one
    player a team tau itself changes nothing."""
    observation: Literal["full", "simple"] = "full"
    """`simple` leaves out the opponent's motion and boost, and the pads (car soccer)."""
    past_actions: int = 0
    """How many of its last actions the agent sees."""
    network: Literal["perceptron", "attention"] = "perceptron"
    """`attention` looks from the own car at ball, other car and pads, as the paper's Perceiver does."""
    ablations: tuple[str, ...] = ("any touch", "plain distances", "utilities as they are", "less the opponent",
                                  "simple view", "past actions")
    """Which of `ABLATIONS` are trained, KRC with one switch turned, for `aux_steps`."""


ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "any touch": {"directed": False},
    "plain distances": {"w_dis": 1.0, "w_den": 1.0, "w_dis_goal": 1.0, "w_dis_own": 1.0},
    "utilities as they are": {"form": "state"},
    "less the opponent": {"spirit": 0.3},
    "simple view": {"observation": "simple"},
    "past actions": {"past_actions": 5},
    "attention": {"network": "attention"},
}
"""Options that differ from the experiment's, by name."""


# --- the parts --------------------------------------------------------------------------------------------


def make_task(config: LucyConfig) -> Task:
    """The game, as the agent sees it."""
    task = _game(config)
    return PastActions(task, config.past_actions) if config.past_actions else task


def _game(config: LucyConfig) -> Task:
    if config.world == "car soccer":
        from plaudit.tasks.car_soccer import CarSoccer

        return CarSoccer(opponent=config.opponent, observation=config.observation)
    if config.observation != "full":
        raise BadInput("config.observation", expected="full in Rocket League", received=config.observation,
                       fix="pass world='car soccer'")
    from plaudit.tasks.rocket import RocketLeague

    return RocketLeague(opponent=config.opponent)


def switched(config: LucyConfig, ablation: str) -> LucyConfig:
    """The options of one of `ABLATIONS`.

    Raises:
        BadInput: for another name.
    """
    if ablation not in ABLATIONS:
        raise BadInput("ablation", expected=f"one of {list(ABLATIONS)}", received=ablation)
    return replace(config, **ABLATIONS[ablation])


def random_matches(config: LucyConfig, task: Task, seeds: Seeds) -> Episodes:
    """Matches of an agent that acts at random."""
    seeds = seeds.child("matching")
    return rollout(task, RandomPolicy(task.action_space, seeds=seeds.child("policy").integer()),
                   seeds=[seeds.child("match", i).integer() for i in range(config.matched_rows)],
                   max_steps=config.matched_steps)


def reward_of(config: LucyConfig, task: Any, arm: str, weights: Mapping[str, float], *,
              reference: Episodes) -> Reward:
    """Goals alone, or goals and events and utilities, whose standard deviation in `reference` is `config.dense`."""
    pitch = Pitch.of(task)
    if arm == "sparse":
        return _sided(config, pitch, events(pitch, weights=GOALS))
    nearness = Nearness(dispersion=config.w_dis, density=config.w_den, goal=config.w_dis_goal,
                        own_goal=config.w_dis_own)
    state = utilities(pitch, combine="krc" if arm.startswith("KRC") else "linear", weights=weights, nearness=nearness)
    paid = utility(state, form=config.form, discount=config.form_discount)
    spread = float(paid(reference)[reference.mask].std())
    happened = {**EVENT_WEIGHTS, **(DEMOLITION_WEIGHTS if "demolish" in reference.info else {})}
    return _sided(config, pitch, events(pitch, weights=happened, directed=config.directed)
                  + (config.dense / spread) * paid)


def _sided(config: LucyConfig, pitch: Pitch, own: Reward) -> Reward:
    return own if config.spirit is None else versus(own, pitch, spirit=config.spirit)


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
         auxiliaries: Sequence[Auxiliary] = (), device: str = "cpu") -> Curve:
    """Trains one agent on each reward, side by side; the curves [member][point]."""
    curves = Curves()
    ppo = PPOConfig(num_envs=config.num_envs, rollout=config.rollout, epochs=config.epochs, minibatches=4,
                    lr=config.lr, anneal_lr=False, discount=0.99, entropy_coef=0.005, scale_reward=True,
                    network=config.network)
    same = all(r is rewards[0] for r in rewards)
    train("ppo", task, reward=rewards[0] if same else PerMember(rewards), population=len(rewards), steps=steps,
          seed=seed, config=ppo, callbacks=[curves], progress=False, auxiliaries=list(auxiliaries),
          others=[event("info:goal", name="win").with_role("watch")], device=device)
    points = max(1, len(curves.rows) // config.bin)
    raw = np.array(curves.rows[:points * config.bin])  # [update, win or score, member]
    binned = np.stack([_mean(part) for part in np.split(raw, points)])
    return {"win": binned[:, 0].T.tolist(), "score": binned[:, 1].T.tolist()}


def _mean(part: np.ndarray) -> np.ndarray:
    """The mean over updates in which a match ended; 0 wins and no goals where none did."""
    here = np.isfinite(part)
    return np.where(here, part, 0.0).sum(0) / np.maximum(here.sum(0), 1)


def tune(config: LucyConfig, seeds: Seeds, *, arm: str, device: str = "cpu") -> dict[str, Any]:
    """Every candidate weighting, judged by agents of its own: all of them, what they won, and which is the best."""
    task = make_task(config)
    reference = random_matches(config, task, seeds)
    tried = candidates(config, seeds)
    rewards = [reward_of(config, task, arm, w, reference=reference) for w in tried]
    judged = play(config, task, [r for r in rewards for _ in range(config.tune_seeds)],
                  seeds.child("tune").integer(), config.tune_steps, device=device)
    wins = np.array(judged["win"]).mean(1).reshape(len(tried), config.tune_seeds)
    return {"tried": tried, "wins": wins.tolist(), "mean": wins.mean(1).tolist(), "spread": spread(wins).tolist(),
            "best": best_of(wins)}


def best_of(wins: np.ndarray) -> int:
    """The candidate whose agents win most on average, [candidates, agents], over the whole of their learning."""
    return int(wins.mean(1).argmax())


def spread(wins: np.ndarray) -> np.ndarray:
    """The standard deviation over the agents of each candidate; 0 for a single one."""
    return wins.std(1, ddof=1) if wins.shape[1] > 1 else np.zeros(len(wins))


def one_arm(config: LucyConfig, seeds: Seeds, *, arm: str, weights: Mapping[str, float],
            tasks: Sequence[str], ablation: str | None, device: str = "cpu") -> Curve:
    """The curves of all agents of an arm; agent s begins alike in every arm that has its network."""
    config = config if ablation is None else switched(config, ablation)
    task = make_task(config)
    reward = reward_of(config, task, arm, weights, reference=random_matches(config, task, seeds))
    heads: list[Auxiliary] = []
    if "state" in tasks:
        heads.append(StateReconstruction(weight=config.w_state))
    if "reward" in tasks:
        heads.append(RewardPrediction(weight=config.w_reward))
    return play(config, task, [reward] * config.seeds, seeds.child("train").integer(),
                config.aux_steps if tasks or ablation else config.steps, heads, device)


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
