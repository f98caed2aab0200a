"""Rewards, tasks and policies as JSON, so that a job can carry them to another process."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import load_state, save_state
from plaudit.core.reward import Reward
from plaudit.core.saving import reward_from_spec, reward_spec
from plaudit.core.targets import load_target
from plaudit.tasks.base import Task
from plaudit.tasks.making import from_spec, make


def pack_reward(reward: Reward) -> dict[str, Any]:
    """A reward as JSON: how it is made, and what it has learnt.

    Raises:
        Unsupported: when a part of it cannot be written down (a lambda, a closure, ...), with what to do.

    Example:
        >>> from plaudit.core.algebra import Constant
        >>> unpack_reward(pack_reward(Constant(2.0).clip(max=1.0))).range
        (1.0, 1.0)
    """
    state = reward.state_dict()
    return {"spec": reward_spec(reward), "state": pack_state(state) if state else None}


def unpack_reward(parcel: Mapping[str, Any]) -> Reward:
    """The reward of `pack_reward`. Its functions are loaded without asking: unpack only what this program packed."""
    reward = reward_from_spec(parcel["spec"], trust=True)
    if parcel["state"] is not None:
        reward.load_state_dict(unpack_state(parcel["state"]))
    return reward


def unpack_task(spec: Mapping[str, Any]) -> Task:
    """The task of `Task.spec()`, also one that the user's code makes: unpack only what this program packed."""
    if spec.get("kind") != "target":
        return from_spec(spec)
    return make(load_target(spec["target"]).thing, **spec["kwargs"],
                **({} if spec.get("horizon") is None else {"horizon": spec["horizon"]}))


def pack_state(state: Mapping[str, Any]) -> str:
    """Nested tensors, numbers and text as one text.

    Example:
        >>> import torch
        >>> unpack_state(pack_state({"step": 3, "weights": [torch.zeros(2)]}))
        {'step': 3, 'weights': [tensor([0., 0.])]}
    """
    with tempfile.TemporaryDirectory(prefix="plaudit-") as folder:
        return base64.b64encode(save_state(Path(folder, "parcel.safetensors"), state).read_bytes()).decode()


def unpack_state(parcel: str) -> dict[str, Any]:
    """What `pack_state` was given."""
    with tempfile.TemporaryDirectory(prefix="plaudit-") as folder:
        file = Path(folder, "parcel.safetensors")
        file.write_bytes(base64.b64decode(parcel))
        return load_state(file)
