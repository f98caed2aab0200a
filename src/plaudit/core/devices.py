"""Where tensors live: names of devices, checked before any work."""

from __future__ import annotations

import torch

from plaudit.core.errors import BadInput


def best_device() -> str:
    """Where a model is trained unless the user says otherwise: `cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str | torch.device) -> str:
    """The name of a device that torch can use on this machine.

    Args:
        name: Such as `cpu`, `cuda` or `cuda:1`.

    Raises:
        BadInput: when torch knows no such device, or has none here.

    Example:
        >>> check_device("cpu")
        'cpu'
        >>> check_device("gpu")
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: device: expected a device of torch, such as cpu or cuda, received gpu
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise BadInput("device", expected="a device of torch, such as cpu or cuda", received=name) from None
    if device.type == "cpu":
        return str(device)
    try:
        torch.zeros(1, device=device).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise BadInput("device", expected="a device that torch can use on this machine", received=str(device),
                       fix=f"pass cpu ({reason})") from error
    return str(device)
