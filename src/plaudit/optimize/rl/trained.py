"""What a run leaves behind: the policies of all members, to play, evaluate, save and load."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.checkpoint import load_state, save_state
from plaudit.core.devices import check_device
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds, counter_uniform
from plaudit.core.tree import Tree, leaves, tree_map
from plaudit.optimize.rl.algorithms import algorithm
from plaudit.optimize.rl.learner import Actor, Learner
from plaudit.optimize.rl.spaces import same_layout
from plaudit.tasks.base import Task

_FORMAT = "plaudit.trained.1"
_FILE = "policy.safetensors"


class LearnedPolicy:
    """The policies of some members; rows are shared out evenly among them, in order.

    Without `deterministic`, a row's random numbers depend on (seed, row, step) alone.
    """

    def __init__(self, actor: Actor, *, deterministic: bool = True, seed: int = 0) -> None:
        self.actor, self.deterministic, self.seed = actor, deterministic, seed

    def start(self, rows: int) -> Tensor | None:
        """The seeds of the rows (None for a deterministic policy)."""
        if rows % self.actor.P:
            raise BadInput("rows", expected=f"a multiple of the {self.actor.P} members", received=rows)
        if self.deterministic:
            return None
        return torch.tensor(Seeds(self.seed).child("policy").integers(rows), device=self.actor.net.flat.device)

    def act(self, obs: Tree, carry: Tensor | None, *, step: int) -> tuple[Tensor, Tensor | None]:
        """Actions [B, ...] in the task's units, where the observations live."""
        there = next(leaf for _, leaf in leaves(obs)).device
        obs = tree_map(lambda x: x.to(self.actor.net.flat.device), obs)
        if carry is None:
            return self.actor.act(obs).to(there), None
        head = self.actor.head
        uniform = counter_uniform(carry, step, head.actions, dtype="float32")
        noise = head.of_uniform(uniform).reshape(self.actor.P, -1, head.actions)
        return self.actor.act(obs, noise).to(there), carry


class Trained:
    """Trained policies, one for each member.

    Attributes:
        algo: The algorithm.
        config: Its options.
        task: What was learnt.
        members: The ids of the members.
        seed: The seed of the run.
        steps: The steps that each member has made.
        actor: The stacked policy networks.
    """

    def __init__(self, *, algo: str, config: Any, task: Task, members: Sequence[int], seed: int, steps: int,
                 learner: Learner) -> None:
        self.algo, self.config, self.task, self.seed, self.steps = algo, config, task, seed, steps
        self.members, self.actor, self._device = list(members), learner.actor, learner.device

    def policy(self, member: int | None = 0, *, deterministic: bool = True, seed: int = 0) -> LearnedPolicy:
        """The policy of the member at this position; None for all of them side by side.

        Args:
            member: Position in `members`, from 0.
            deterministic: The most probable action; else a sample.
            seed: Seed of the samples.

        Raises:
            BadInput: when there is no such member.
        """
        if member is not None and not 0 <= member < len(self.members):
            raise BadInput("member", expected=f"a position in 0 ... {len(self.members) - 1}", received=member)
        actor = self.actor if member is None else self.actor.select([member])
        return LearnedPolicy(actor, deterministic=deterministic, seed=seed)

    def play(self, *, episodes: int, seed: int = 0, deterministic: bool = True, task: Task | None = None) -> Episodes:
        """Episodes of all members, rows grouped by member; every member meets the same first states.

        Args:
            episodes: For each member.
            seed: Seed of the first states (and of the samples).
            deterministic: Whether the most probable action is taken.
            task: Where they act, with the same spaces; None is the task that was learnt.

        Raises:
            BadInput: when there are no episodes, or the spaces are others.
        """
        from plaudit.tasks.rollouts import rollout

        for name in ("obs_space", "action_space") if task is not None else ():
            wanted, given = getattr(self.task, name), getattr(task, name)
            if not same_layout(wanted, given):
                raise BadInput(f"task.{name}", expected=f"that of the task that was learnt, {wanted}",
                               received=given, fix="play where observations and actions have the same form")
        if episodes < 1:
            raise BadInput("episodes", expected="an integer >= 1", received=episodes)
        P = len(self.members)
        seeds = Seeds(seed).child("evaluate").integers(episodes)
        policy = self.policy(None, deterministic=deterministic, seed=seed)
        played = rollout(self.task if task is None else task, policy, seeds=seeds * P, device=str(self._device))
        ids = torch.tensor(self.members, device=played.device)
        return played.replace(member=ids.repeat_interleave(episodes))

    def evaluate(self, *, episodes: int = 100, seed: int = 0, deterministic: bool = True,
                 reward: Reward | None = None) -> Float[Tensor, "P E"]:
        """Undiscounted returns of evaluation episodes under the environment's reward, or another.

        Example:
            >>> from plaudit.optimize import PPOConfig, train
            >>> trained = train("ppo", "CartPole-v1", steps=256, progress=False, config=PPOConfig(rollout=32))
            >>> trained.evaluate(episodes=3).shape
            torch.Size([1, 3])
        """
        played = self.play(episodes=episodes, seed=seed, deterministic=deterministic)
        if reward is not None:
            return played.returns(reward(played)).reshape(len(self.members), -1)
        assert played.env_reward is not None
        return played.returns(played.env_reward).reshape(len(self.members), -1)

    # --- files --------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Writes `policy.safetensors` (tensors, and JSON in its metadata) into the folder, atomically."""
        return save_state(Path(folder) / _FILE, {
            "format": _FORMAT, "algo": self.algo, "config": dataclasses.asdict(self.config), "task": spec_of(self.task),
            "members": self.members, "seed": self.seed, "steps": self.steps, "actor": self.actor.state_dict()})

    @staticmethod
    def load(folder: str | Path, *, task: Task | None = None, device: str = "cpu") -> Trained:
        """Reads what `save` wrote.

        Args:
            folder: Where.
            task: The task, if it is one that cannot be made again from its spec.
            device: Where the networks shall live.

        Raises:
            BadInput: when the file is missing, or not ours, or the task is needed.
        """
        device = check_device(device)
        state = load_state(Path(folder) / _FILE)
        if state.get("format") != _FORMAT:
            raise BadInput("folder", expected="a folder that Trained.save wrote", received=str(folder))
        if task is None:
            if state["task"] is None:
                raise BadInput("task", expected="the task of these policies, which cannot be made from a file",
                               received=None, fix="pass task=...")
            from plaudit.tasks.making import from_spec

            task = from_spec(state["task"])
        kind, config_type = algorithm(state["algo"])
        config = config_of(config_type, state["config"])
        seeds = [Seeds(state["seed"]).child("member", m) for m in state["members"]]
        learner = kind(config, task, seeds=seeds, device=device)
        learner.actor.load_state_dict(state["actor"])
        return Trained(algo=state["algo"], config=config, task=task, members=state["members"], seed=state["seed"],
                       steps=state["steps"], learner=learner)


def spec_of(task: Task) -> dict[str, Any] | None:
    """The task's spec, or None if it has none."""
    try:
        return task.spec()
    except Unsupported:
        return None


def config_of(kind: type, saved: Mapping[str, Any]) -> Any:
    """A config from its JSON."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
