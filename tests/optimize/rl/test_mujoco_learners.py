"""How `benchmarks/mujoco_learners.py` compares independent runs of two libraries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from plaudit.core.errors import BadInput

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "mujoco_learners.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("mujoco_learners", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def side(script, levels):
    return [{"algo": "ppo", "env": "Hopper-v5", "initialisation": "orthogonal", "seed": seed,
             "returns": [0.0] * (script.POINTS - script.LAST) + [level] * script.LAST}
            for seed, level in enumerate(levels)]


def test_which_runs_share_a_seed_number_changes_nothing(script):
    ours = [2000.0, 3000.0, 4000.0]
    (alike,), (crossed,) = (script.compare(side(script, ours), side(script, theirs))
                            for theirs in ([1000.0, 1500.0, 2000.0], [2000.0, 1500.0, 1000.0]))
    assert alike["ratio"] == crossed["ratio"] == 2.0 and alike["interval"] == crossed["interval"]
    low, high = alike["interval"]
    assert 0 < low < 2.0 < high and low * high == pytest.approx(4.0, rel=1e-2)  # even on the log scale


@pytest.mark.parametrize("spread", [0.2, 0.5])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(script, spread):
    """Three runs a side, gamma distributed, of a true ratio of 3."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        ours, theirs = (rng.gamma(spread**-2, scale * spread**2, size=3) for scale in (3.0, 1.0))
        low, high = script.ratio_interval(ours, theirs)
        assert 0 < low < high
        held += low <= 3.0 <= high
    assert 930 <= held <= 990


def test_a_ratio_of_means_that_are_not_positive_is_refused(script):
    with pytest.raises(BadInput, match="positive means"):
        script.ratio_interval(np.array([1.0, -2.0]), np.array([1.0, 2.0]))
    assert script.ratio_interval(np.array([4.0, 4.0]), np.array([2.0, 2.0])) == (2.0, 2.0)
