"""HERON's worlds: what matters in each, and agents trained on it by ranking, by weights or by the true reward."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.feedback.hierarchy import Factor, Hierarchy
from plaudit.learn.bradley_terry import BradleyTerryConfig
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.preference_loop import LoopConfig, PreferenceLoop
from plaudit.optimize.rl.trained import Trained
from plaudit.tasks.arrays import Array, Moved
from plaudit.tasks.base import Task
from plaudit.tasks.classic import MountainCarContinuous, Pendulum
from plaudit.tasks.gridworld import GridWorld

if TYPE_CHECKING:
    from plaudit.zoo.heron import HeronConfig

Measure = Callable[..., Tensor]
UNITS = 1000.0
"""By how much the unit of a factor is changed to see who minds."""


@dataclass(frozen=True)
class World:
    """A task, its factors in order of importance, and how its results are read."""

    make: Callable[[int], Task]
    """The task, given the steps of an episode."""
    changed: Callable[[int, float], Task]
    """The same in other circumstances: how strong the change is, in the unit that `change` names."""
    change: str
    measures: Mapping[str, tuple[Measure, int]]
    """By name, most important first: the value at each step, and its sign."""
    spreads: tuple[float, ...]
    """The standard deviation of each factor under random actions: the unit of the weights of the linear grid. A
    binary factor that never moved there gets that of happening once an episode."""
    fields: tuple[str, ...]
    """What the reward model reads."""
    sizes: tuple[int, ...]
    floor: float
    """The true return of doing nothing sensible, and ..."""
    ceiling: float
    """... of doing well: between them a score goes from 0 to 1."""

    def factors(self, *, count: int | None = None, margins: Sequence[float] = (), units: Sequence[float] = (),
                gaps: Sequence[float] = ()) -> list[Factor]:
        """The factors (or the most important ones), with their margins c_l, measured in other units if so asked."""
        out: list[Factor] = []
        for i, (name, (measure, sign)) in enumerate([*self.measures.items()][:count]):
            of = reward(measure, name=name, vectorised=True, backend="torch")
            unit = units[i] if units else 1.0
            out.append(Factor(name=name, of=unit * of if unit != 1 else of, sign=sign,
                              margin=margins[i] if i < len(margins) else 0.0, gap=gaps[i] if i < len(gaps) else 0.0))
        return out


# --- what matters ------------------------------------------------------------------------------------------


def _angle(next_obs: Tensor) -> Tensor:
    return torch.atan2(next_obs[..., 1], next_obs[..., 0]).square()


def _velocity(next_obs: Tensor) -> Tensor:
    return next_obs[..., 2].square()


def _effort(action: Tensor) -> Tensor:
    return action[..., 0].square()


def _arrived(terminated: Tensor) -> Tensor:
    return terminated.float()


def _energy_missing(next_obs: Tensor) -> Tensor:
    """What the car lacks to roll over the hill by itself, in 1e-4 of the simulation's units."""
    position, speed = next_obs[..., 0].double(), next_obs[..., 1].double()
    energy = speed.square() / 2 + 0.0025 / 3 * torch.sin(3 * position)
    return ((0.0025 / 3 * torch.sin(torch.tensor(3 * 0.45, dtype=torch.float64)) - energy).clamp(min=0) * 1e4).float()


MAZE = """\
S...............
................
................
......####......
.............#..
...#.........#..
...#............
...#......#.....
..........#.....
..........#.....
..........#.....
....###.........
............#...
............#...
................
...............G"""
CELLS = sum(letter != "#" for letter in MAZE) - MAZE.count("\n")


@functools.cache
def _ways(device: torch.device | str = "cpu") -> Float[Tensor, "S"]:
    """Steps from each state of the maze to the goal, as a share of the longest way."""
    table = GridWorld(MAZE).tabular(discount=0.9)
    after = torch.as_tensor(table.transition).argmax(-1)
    goal = torch.as_tensor(table.terminal).nonzero()[:, 0]
    far = torch.full((table.S,), torch.inf)
    far[goal] = 0.0
    for _ in range(table.S):
        far = torch.minimum(far, 1 + far[after].amin(1))
    return (far / far.amax()).to(device)


def _distance(info: Mapping[str, Tensor]) -> Tensor:
    state = info["next_state"].long()
    return _ways(state.device)[state]


class WeakCar(MountainCarContinuous):
    """The car with another motor; what an action costs stays the same.

    Args:
        power: of the motor, as a share of its own.
        horizon: steps until truncation.
    """

    def __init__(self, *, power: float, horizon: int) -> None:
        super().__init__(horizon=horizon)
        self.power = power

    def spec(self) -> dict[str, Any]:
        return Task.spec(self)  # none: that of the car with its own motor would be another task

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        moved = super().advance(state_KB, xp.clip(action_B, -1.0, 1.0) * self.power, uniform_KB, xp)
        asked = action_B[:, 0]
        return replace(moved, reward=xp.where(moved.terminated, 100.0, 0.0) - 0.1 * asked * asked)


WORLDS: Mapping[str, World] = {
    "Pendulum": World(
        make=lambda horizon: Pendulum(horizon=horizon),
        changed=lambda horizon, gravity: Pendulum(g=gravity, horizon=horizon), change="m/s^2 of gravity",
        measures={"angle": (_angle, -1), "velocity": (_velocity, -1), "torque": (_effort, -1)},
        spreads=(3.3, 10.0, 1.2), fields=("next_obs", "action"), sizes=(3, 1), floor=-1200.0, ceiling=-150.0),
    "MountainCar": World(
        make=lambda horizon: MountainCarContinuous(horizon=horizon),
        changed=lambda horizon, power: WeakCar(power=power, horizon=horizon), change="times the motor's power",
        measures={"goal": (_arrived, 1), "missing energy": (_energy_missing, -1), "effort": (_effort, -1)},
        spreads=(0.032, 0.6, 0.3), fields=("next_obs", "action", "terminated"), sizes=(2, 1, 1), floor=0.0,
        ceiling=95.0),
    "Maze": World(
        make=lambda horizon: GridWorld(MAZE, horizon=horizon, one_hot=True, name="maze"),
        changed=lambda horizon, slip: GridWorld(MAZE, slip=slip, horizon=horizon, one_hot=True, name="maze"),
        change="chance to slip", measures={"goal": (_arrived, 1), "distance": (_distance, -1)}, spreads=(0.13, 0.3),
        fields=("next_obs", "terminated"), sizes=(CELLS, 1), floor=0.0, ceiling=1.0),
}


def grid(levels: int, steps: Sequence[float] = (0.1, 1.0, 10.0)) -> list[tuple[float, ...]]:
    """The weights of a linear reward relative to the top factor's: every combination of `steps`."""
    return [(1.0, *rest) for rest in itertools.product(steps, repeat=levels - 1)]


# --- rewards -----------------------------------------------------------------------------------------------


class WeightedFactors(Reward):
    """What an engineer writes: a weighted sum of factors, with weights of its own for each member of a population.

    Args:
        factors: What is measured.
        weights: [members, factors]; the last column may be one more, that of the environment's own reward.
    """

    def __init__(self, factors: Sequence[Factor], weights: Float[Tensor, "P W"]) -> None:
        self.factors, self.weights, self.name = list(factors), weights, "weighted factors"
        self.rewards = [f.of for f in factors if isinstance(f.of, Reward)]
        own = frozenset[str]({"env_reward"}) if weights.shape[1] > len(factors) else frozenset[str]()
        self.needs = Needs(fields=own.union(*(r.needs.fields for r in self.rewards)))

    def evaluate(self, episodes: Episodes) -> Score:
        columns = [f.sign * r(episodes) for f, r in zip(self.factors, self.rewards, strict=True)]
        if self.weights.shape[1] > len(columns):
            assert episodes.env_reward is not None
            columns.append(episodes.env_reward)
        assert episodes.member is not None
        value = (torch.stack(columns, -1) * self.weights[episodes.member].unsqueeze(1)).sum(-1)
        return Score.of(value, mask=episodes.mask)


# --- training ----------------------------------------------------------------------------------------------


def control(config: HeronConfig, seeds: Seeds, *, world: str, arm: str,
            weights: Sequence[Sequence[float]] = (), device: str = "cpu") -> dict[str, Any]:
    """Trains the agents of one arm side by side, and says how they do.

    Args:
        config: The options.
        seeds: Of the whole experiment.
        world: Which world.
        arm: `linear`, `linear, other units`, `HERON`, `HERON, other units` or `HERON, reversed`.
        weights: For the linear arms, those of each variant over the factors (and the environment's own reward).
        device: Where agents, worlds and reward models live.

    Returns:
        By metric, the numbers [variants][seeds]; `return, changed` for the arms that are judged there.
    """
    from plaudit.optimize.rl.train import train

    place, at = WORLDS[world], list(WORLDS).index(world)
    units = [1.0] * len(place.measures)
    if arm.endswith("other units"):
        units[1] = UNITS
    factors = place.factors(count=config.factors[at], margins=config.margins[at], units=units, gaps=config.gaps)
    task, variants = place.make(config.horizons[at]), max(1, len(weights))
    members = list(range(variants * config.seeds))
    callbacks: list[Callback] = []
    if weights:
        table = torch.tensor([list(w) for w in weights], device=device).repeat_interleave(config.seeds, 0)
        paid: Reward = WeightedFactors(factors, table)
    else:
        ranking = list(range(len(factors)))
        judge = Hierarchy(factors, ranking=ranking[::-1] if arm.endswith("reversed") else ranking, over="sum")
        root = seeds.child(world, "reward").integer()
        paid = LearnedReward(StepFeatures(place.fields, place.sizes), hidden=config.reward_hidden, groups=members,
                             members=config.ensemble, learning=True, seed=root, device=device)
        callbacks = [PreferenceLoop(paid, judge, config=_loop(config, config.algos[at]), seed=root,
                                    fit=BradleyTerryConfig(lr=config.reward_lr, batch=config.reward_batch, over="sum",
                                                           standardise=config.standardise[at],
                                                           level_scale=config.level_scale))]
    algo, options = _learner(config, config.algos[at])
    trained = train(algo, task, reward=paid, population=members, callbacks=callbacks, progress=False,
                    seed=seeds.child(world, "agents").integer(), config=options, steps=config.steps[at], device=device)
    found = measured(trained, place, episodes=config.episodes, variants=variants)
    if config.changed and arm in ("linear", "HERON"):
        there = place.changed(config.horizons[at], config.changed[at])
        found["return, changed"] = measured(trained, place, episodes=config.episodes, variants=variants,
                                            task=there)["return"]
    return found


def _loop(config: HeronConfig, algo: str) -> LoopConfig:
    on_policy = algo == "ppo"
    every = 512 if on_policy else config.every
    return LoopConfig(start=every if on_policy else config.warmup // 2, every=every, fragment=config.fragment,
                      batches=config.batches, updates=config.reward_updates,
                      memory=config.recent if not on_policy else 256)


def _learner(config: HeronConfig, algo: str) -> tuple[str, Any]:
    """The learner's name, and its options."""
    if algo == "ppo":
        from plaudit.optimize.rl.ppo import PPOConfig

        return "ppo", PPOConfig(num_envs=8, rollout=64, hidden=(32, 32), lr=3e-3, entropy_coef=0.01)
    shared: dict[str, Any] = {"hidden": config.hidden, "batch": config.batch, "num_envs": 4, "warmup": config.warmup,
                              "update_ratio": config.update_ratio, "rounds": 50}
    if algo == "dqn":
        from plaudit.optimize.rl.dqn import DQNConfig

        return "dqn", DQNConfig(lr=config.lr, collect=1, **shared)
    shared |= {"actor_lr": config.lr, "critic_lr": config.lr}
    if algo == "sac":
        from plaudit.optimize.rl.sac import SACConfig

        return "sac", SACConfig(temperature_lr=config.lr, **shared)
    from plaudit.optimize.rl.td3 import TD3Config

    return "td3", (TD3Config if algo == "td3" else TD3Config.ddpg)(**shared)


def measured(trained: Trained, place: World, *, episodes: int, variants: int,
             task: Task | None = None) -> dict[str, Any]:
    """The true return and each factor's outcome: its mean over steps, the top binary one's total.

    Args:
        trained: The agents of all variants and seeds.
        place: What is measured.
        episodes: Of each agent.
        variants: Of the reward.
        task: Where they are judged; None is where they learnt.
    """
    played = trained.play(episodes=episodes, seed=12345, deterministic=trained.algo != "ppo", task=task)
    assert played.env_reward is not None
    fold = lambda x: x.reshape(variants, -1, episodes).mean(-1).tolist()  # noqa: E731
    out: dict[str, Any] = {"return": fold(played.returns(played.env_reward))}
    for factor in place.factors():
        assert isinstance(factor.of, Reward)
        total = played.returns(factor.of(played))
        out[factor.name] = fold(total if factor.name == "goal" else total / played.lengths)
    return out


def score(place: World, returns: Sequence[float]) -> list[float]:
    """True returns as scores: 0 for nothing sensible, 1 for doing well."""
    return [(r - place.floor) / (place.ceiling - place.floor) for r in returns]
