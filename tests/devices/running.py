"""Cases: each runs on a device and, where it gives numbers, on the CPU; the two must agree."""

from __future__ import annotations

import math
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch import Tensor, nn

from plaudit.core import devices
from plaudit.core.stacked import PopulationMLP
from plaudit.zoo.contract import System
from plaudit.zoo.lab import run_system

CASES: dict[str, Callable[[str, Path], object]] = {}


def case(fn: Callable[[str, Path], object]) -> Callable[[str, Path], object]:
    CASES[fn.__name__] = fn
    return fn


def near(there: Tensor, here: Tensor, device: str) -> None:
    """The same numbers, one of them on the device."""
    assert there.device.type == torch.device(device).type, f"the result is on {there.device}"
    assert torch.allclose(there.cpu().double(), here.double(), atol=1e-3), (there, here)


# --- systems of the zoo -------------------------------------------------------------------------------------


def replicates(system: System, config: Any, device: str) -> None:
    """A system finds on the device what it finds on the CPU, and all that learns or is asked there lives on it."""
    with networks() as used:
        there = run_system(system, config=config, device=device)
    assert used == {torch.device(device).type}, f"networks ran on {used}"
    alike(*([[asdict(x) for x in (*r.arms, *r.criteria)], r.data] for r in (there, run_system(system, config=config))))


@contextmanager
def networks() -> Iterator[set[str]]:
    """The kinds of devices on which networks are called and gradients taken meanwhile."""
    used = set[str]()

    def seen(before: Any, where: Callable[..., Tensor]) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            used.add(where(*args).device.type)
            return before(*args, **options)

        return call

    first = lambda roots, *_: roots if isinstance(roots, Tensor) else roots[0]  # noqa: E731
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, _: used.update(p.device.type for p in module.parameters()))
    try:
        with patch.object(torch.autograd, "backward", seen(torch.autograd.backward, first)), \
                patch.object(torch.autograd, "grad", seen(torch.autograd.grad, first)), \
                patch.object(PopulationMLP, "named", seen(PopulationMLP.named, lambda net, flat=None: net.flat)):
            yield used
    finally:
        hook.remove()


def alike(there: Any, here: Any, at: str = "result") -> None:
    """Nested values of JSON, the same but for rounding; NaN is like NaN."""
    if isinstance(there, float) or isinstance(here, float):
        both_nan = math.isnan(there) and math.isnan(here)
        assert both_nan or math.isclose(there, here, rel_tol=1e-3, abs_tol=1e-3), (at, there, here)
    elif isinstance(there, dict):
        assert there.keys() == here.keys(), (at, there, here)
        for key in there:
            alike(there[key], here[key], f"{at} / {key}")
    elif isinstance(there, list | tuple):
        assert len(there) == len(here), (at, there, here)
        for i, pair in enumerate(zip(there, here, strict=True)):
            alike(*pair, f"{at} / {i}")
    else:
        assert there == here, (at, there, here)


# --- running ------------------------------------------------------------------------------------------------


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
    print("END", flush=True)  # what comes behind it is not ours: threads of torch may die badly
