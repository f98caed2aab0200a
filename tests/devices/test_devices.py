"""Nothing that runs on an accelerator mixes its tensors with those of the host, and the numbers are those of the CPU.

Machines without one pretend it (`pretended.cpp`), where a C++ compiler is; where CUDA is, the same cases run there.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pretended
import pytest
import torch

HERE = Path(__file__).parent
COMPILED = pytest.mark.skipif(pretended.compiler() is None, reason="needs a C++ compiler")
DEVICES = [pytest.param("pretend", marks=COMPILED),
           pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))]


@pytest.mark.parametrize("cases", sorted(p.name for p in HERE.glob("*cases.py")))
@pytest.mark.parametrize("device", DEVICES)
def test_every_case_runs_on_the_device(device: str, cases: str) -> None:
    done = subprocess.run([sys.executable, str(HERE / cases), device], capture_output=True, text=True, check=False)
    said = dict(line.split("\t")[1:3] for line in done.stdout.splitlines() if line.startswith("CASE\t"))
    assert done.stdout.endswith("END\n"), done.stderr[-3000:]
    failed = [f"{name}: {ast.literal_eval(why)}" for name, why in said.items() if why != "ok"]
    assert not failed, "\n\n".join(failed)


@COMPILED
def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    script = """
import pretended, torch
device = pretended.install()
x = torch.arange(6.0, device=device).reshape(2, 3)
assert x.T[1:].sum().item() == 12 and x[torch.tensor([1])].shape == (1, 3)
x[:, 1] = 0
assert x.cpu().tolist() == [[0, 0, 2], [3, 0, 5]]
for wrong in (lambda: x + torch.ones(3), lambda: torch.rand(2, device=device, generator=torch.Generator()),
              lambda: x.numpy(), lambda: torch.ones(3)[x[0].long()], lambda: torch.where(x > 0, torch.ones(2, 3), x)):
    try:
        wrong()
    except (RuntimeError, TypeError) as error:
        assert "device" in str(error), error
    else:
        raise AssertionError("allowed")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
