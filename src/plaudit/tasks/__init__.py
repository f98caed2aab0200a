"""Where episodes come from: batched environments of our own, and every Gymnasium environment.

Example:
    >>> from plaudit.tasks import RandomPolicy, make, rollout
    >>> task = make("CartPole-v1")
    >>> rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2]).B
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.tasks.base import Batch as Batch
    from plaudit.tasks.base import Step as Step
    from plaudit.tasks.base import Task as Task
    from plaudit.tasks.gridworld import GridWorld as GridWorld
    from plaudit.tasks.making import from_spec as from_spec
    from plaudit.tasks.making import make as make
    from plaudit.tasks.policy import ActionSequence as ActionSequence
    from plaudit.tasks.policy import Policy as Policy
    from plaudit.tasks.policy import RandomPolicy as RandomPolicy
    from plaudit.tasks.rollouts import replay as replay
    from plaudit.tasks.rollouts import rollout as rollout
    from plaudit.tasks.tabular import TabularMDP as TabularMDP
    from plaudit.tasks.wrappers import RewardWrapper as RewardWrapper
    from plaudit.tasks.wrappers import VectorRewardWrapper as VectorRewardWrapper

_HOME = {"Batch": "base", "Step": "base", "Task": "base", "GridWorld": "gridworld", "from_spec": "making",
         "make": "making", "ActionSequence": "policy", "Policy": "policy", "RandomPolicy": "policy",
         "replay": "rollouts", "rollout": "rollouts", "TabularMDP": "tabular",
         "RewardWrapper": "wrappers", "VectorRewardWrapper": "wrappers"}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)
