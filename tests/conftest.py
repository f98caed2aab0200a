"""Every annotated shape (`Float[Tensor, "B T"]`) is checked at run time while the tests run.

A check costs some 20 microseconds a tensor. Runs that train for minutes (`make slow`) go without:
PLAUDIT_CHECK_SHAPES=0.
"""

from __future__ import annotations

import os

if os.environ.get("PLAUDIT_CHECK_SHAPES", "1") != "0":
    from jaxtyping import install_import_hook

    # an int is a good float, as PEP 484 has it and as pyright reads it
    install_import_hook("plaudit", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("plaudit", deadline=None, derandomize=True)  # CI must not fail by luck or by load
settings.load_profile("plaudit")
