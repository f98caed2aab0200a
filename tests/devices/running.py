"""What the files of cases share: `python tests/devices/cases.py pretend` (or `cuda`) prints a line for each case.

Each case runs on the device and, where it gives numbers, on the CPU; the two must agree.
"""

from __future__ import annotations

import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from plaudit.core import devices
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_adam import PopulationAdam
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


def differing(there: Any, here: Any, place: str = "") -> list[str]:
    """Where two JSON values differ by more than rounding; NaN equals NaN."""
    if isinstance(there, dict) and isinstance(here, dict) and there.keys() == here.keys():
        return [d for k in there for d in differing(there[k], here[k], f"{place}/{k}")]
    if isinstance(there, list | tuple) and isinstance(here, list | tuple) and len(there) == len(here):
        return [d for i, pair in enumerate(zip(there, here, strict=True)) for d in differing(*pair, f"{place}/{i}")]
    if isinstance(there, float | int) and isinstance(here, float | int):
        same = math.isclose(there, here, rel_tol=1e-3, abs_tol=1e-3) or (math.isnan(there) and math.isnan(here))
        return [] if same else [f"{place}: {there} and not {here}"]
    return [] if there == here else [f"{place}: {there!r:.80} and not {here!r:.80}"]


@contextmanager
def networks_on(device: str) -> Generator[None]:
    """Within, networks are asked or learn, and the parameters of all that are, and of every optimiser, live there."""
    found, step, named = set[str](), PopulationAdam.step, PopulationMLP.named

    def add(*tensors: Tensor) -> None:
        found.update(x.device.type for x in tensors)

    def stepped(self: PopulationAdam, **options: Any) -> Tensor:
        add(*self.params)
        return step(self, **options)

    def asked(self: PopulationMLP, flat: Tensor | None = None) -> dict[str, Tensor]:
        add(self.flat)
        return named(self, flat)

    hooks = [register_optimizer_step_pre_hook(lambda by, *_: add(*(p for g in by.param_groups for p in g["params"]))),
             register_module_forward_pre_hook(lambda module, _: add(*module.parameters()))]
    try:
        with patch.object(PopulationAdam, "step", stepped), patch.object(PopulationMLP, "named", asked):
            yield
    finally:
        for hook in hooks:
            hook.remove()
    assert found == {torch.device(device).type}, f"networks live on {sorted(found) or 'nothing'}"


def runs_alike(system: System, config: Any, device: str) -> None:
    """A system of the zoo learns on the device, and finds what it finds on the CPU where it is told to be there."""
    with networks_on(device):
        there = run_system(system, scale="smoke", config=config, device=device)
    with networks_on("cpu"):
        here = run_system(system, scale="smoke", config=config)
    assert there.device == device and here.device == "cpu"
    said = [[asdict(result)[name] for name in ("arms", "criteria", "data")] for result in (there, here)]
    wrong = differing(said[0], said[1])
    assert not wrong, "; ".join(wrong[:8])


def pretend() -> None:
    """Installs the device, and has what picks a device by itself pick it, unless it is told to use the CPU."""
    import accelerate
    import pretended

    name = pretended.install()
    chosen: Any = vars(transformers.TrainingArguments)["device"]
    where = lambda cpu: torch.device("cpu" if cpu else name)  # noqa: E731
    patched: list[tuple[Any, str, Any]] = [
        (transformers.TrainingArguments, "n_gpu", property(lambda self: 0 if self.use_cpu else 1)),
        (transformers.TrainingArguments, "device", property(lambda self: (chosen.fget(self), where(self.use_cpu))[1])),
        (accelerate.Accelerator, "device", property(lambda self: where(self.state._cpu)))]
    patched += [(module, "best_device", lambda: name) for module in list(sys.modules.values())
                if vars(module).get("best_device") is devices.best_device]
    for place, attribute, value in patched:
        setattr(place, attribute, value)


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
