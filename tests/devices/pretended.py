"""A pretended accelerator for torch, `pretend`: see `pretended.cpp`, which is compiled once for each torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import types
from pathlib import Path

import torch
from torch.utils.backend_registration import generate_methods_for_privateuse1_backend, rename_privateuse1_backend

SOURCE = Path(__file__).with_name("pretended.cpp")
NAME = "pretend"


def compiler() -> str | None:
    """The C++ compiler of this machine."""
    return shutil.which("g++") or shutil.which("c++")


def build() -> Path:
    """The library, compiled unless it is there already."""
    key = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    out = Path(tempfile.gettempdir()) / f"plaudit-pretended-{key}.so"
    if not out.exists():
        home, made = Path(torch.__file__).parent, out.with_suffix(f".{os.getpid()}")  # another process may compile too
        include = home / "include"
        subprocess.run([compiler() or "c++", "-O1", "-std=c++20", "-fPIC", "-shared", "-w", f"-I{include}",
                        f"-I{include / 'torch/csrc/api/include'}", str(SOURCE), "-o", str(made), f"-L{home / 'lib'}",
                        "-ltorch", "-ltorch_cpu", "-lc10"], check=True)
        made.replace(out)
    return out


def install() -> str:
    """Makes the device known to torch in this process; returns its name."""
    rename_privateuse1_backend(NAME)
    module = types.ModuleType(f"torch.{NAME}")
    known = {"is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1,
             "current_device": lambda: 0, "_is_in_bad_fork": lambda: False, "_lazy_init": lambda: None,
             "manual_seed_all": lambda seed: None, "synchronize": lambda *args: None,
             "get_rng_state": lambda device=0: torch.get_rng_state(), "set_rng_state": lambda state, device=0: None,
             "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16]}
    vars(module).update(known)
    torch._register_device_module(NAME, module)
    generate_methods_for_privateuse1_backend()
    torch.__future__.set_swap_module_params_on_conversion(True)  # parameters stay the same objects, as on CUDA
    torch.ops.load_library(str(build()))
    return NAME
