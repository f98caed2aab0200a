"""What the files of cases share: `python tests/devices/cases.py pretend` (or `cuda`) prints a line for each case.

Each case runs on the device and, where it gives numbers, on the CPU; the two must agree.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from plaudit.core import devices

CASES: dict[str, Callable[[str, Path], object]] = {}


def case(fn: Callable[[str, Path], object]) -> Callable[[str, Path], object]:
    CASES[fn.__name__] = fn
    return fn


def near(there: Tensor, here: Tensor, device: str) -> None:
    """The same numbers, one of them on the device."""
    assert there.device.type == torch.device(device).type, f"the result is on {there.device}"
    assert torch.allclose(there.cpu().double(), here.double(), atol=1e-3, equal_nan=True), (there, here)


def pretend() -> None:
    """Installs the device, and has what picks a device by itself pick it."""
    import accelerate
    import pretended

    name = pretended.install()
    chosen: Any = vars(transformers.TrainingArguments)["device"]
    patched: list[tuple[Any, str, Any]] = [
        (devices, "best_device", lambda: name), (transformers.TrainingArguments, "n_gpu", property(lambda self: 1)),
        (transformers.TrainingArguments, "device", property(lambda self: (chosen.fget(self), torch.device(name))[1])),
        (accelerate.Accelerator, "device", property(lambda self: torch.device(name)))]
    for where, attribute, value in patched:
        setattr(where, attribute, value)


def main(device: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    if device == "pretend":
        pretend()
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                CASES[name](device, Path(folder))
                said = "ok"
            except Exception:  # each case is a test of its own
                said = repr(traceback.format_exc(limit=-6))
        print(f"CASE\t{name}\t{said}", flush=True)
