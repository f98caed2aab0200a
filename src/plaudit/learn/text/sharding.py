"""Weights that are spread over the processes (FSDP 2): what goes with it, and how the whole comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from plaudit.core.errors import BadInput


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds only a part of the weights.

    Example:
        >>> is_sharded(nn.Linear(2, 3))
        False
    """
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) for p in model.parameters())


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model; of a sharded one it is whole in the first process and empty in the others.

    All processes call it together.
    """
    if not is_sharded(model):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}


def check_sharding(arguments: Mapping[str, Any], other: Mapping[str, object], *, accelerators: bool) -> None:
    """Refuses what does not go with `fsdp`.

    Args:
        arguments: TrainingArguments.
        other: By name, what else was asked for; false where it was not.
        accelerators: Whether there are any.

    Raises:
        BadInput: without accelerators, for FSDP 1, or together with what reads or moves weights outside the loop.
    """
    if not arguments.get("fsdp"):
        return
    if not accelerators:
        raise BadInput("arguments", expected="no fsdp on a machine without accelerators (it would be overlooked)",
                       received=f"fsdp={arguments['fsdp']}",
                       fix="leave it out: several processes on CPUs share the batch")
    config = arguments.get("fsdp_config")
    version = 2 if not isinstance(config, Mapping) else config.get("version", config.get("fsdp_version", 2))
    if int(version) != 2:
        raise BadInput("arguments", expected="fsdp_config version 2", received=version,
                       fix="leave the version out; version 1 cannot be measured in the course of training")
    asked = [name for name, value in other.items() if value]
    if asked:
        raise BadInput("arguments", expected="fsdp with one stage of training that moves the whole model",
                       received=f"fsdp together with {', '.join(asked)}",
                       fix=f"leave fsdp out, or do without {', '.join(asked)}")


__all__ = ["check_sharding", "is_sharded", "whole_state"]
