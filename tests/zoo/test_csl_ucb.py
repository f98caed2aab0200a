"""System 33: every part runs, planted results are read as they are, and a rival that wins refutes the claim."""

from __future__ import annotations

import numpy as np
import pytest

from plaudit.core.seeds import Seeds
from plaudit.optimize.bandits import CSLUCB, CSLOptions
from plaudit.tasks.bandits import random_sem, with_change
from plaudit.zoo import csl_ucb as zoo
from plaudit.zoo.contract import decide, load_result
from plaudit.zoo.lab import run_system


def test_smoke_runs_and_writes_its_result(tmp_path):
    result = run_system(zoo.SYSTEM, scale="smoke", out=tmp_path)
    kept = load_result(tmp_path / "csl-ucb.json")
    assert kept.verdict == result.verdict and len(kept.criteria) == 6
    assert {a.name for a in kept.arms} >= {zoo.CSL, zoo.ONE, zoo.KNOWN, *zoo.UCBS, *zoo.GOLEMS, zoo.COLUMN, zoo.RECENT}
    assert (tmp_path / "csl-ucb.png").stat().st_size > 10_000


def planted(csl: float, others: float) -> list[dict]:
    rng = np.random.default_rng(0)
    names = (zoo.CSL, *zoo.UCBS, *zoo.GOLEMS)
    return [{name: {"regret": (csl if name == zoo.CSL else others) * rng.uniform(0.9, 1.1), "optimal": 0.9,
                    "reward": (10 if (name == zoo.CSL) == (csl < others) else 5) * rng.uniform(0.9, 1.1)}
             for name in names} for _ in range(12)]


def test_who_has_less_regret_wins_and_who_has_more_refutes():
    assert decide(zoo.from_stationary(10, 1500, planted(100.0, 400.0))[1]) == "holds"
    assert decide(zoo.from_stationary(10, 1500, planted(400.0, 100.0))[1]) == "does not hold"
    pilot = zoo.from_stationary(6, 1000, planted(1000.0, 4000.0))[1][-1]
    assert pilot.verdict == "does not hold" and pilot.value.mean == pytest.approx(1000 / 364, rel=0.1)


def test_a_change_is_judged_against_the_better_rival():
    def found(column, full):
        rng = np.random.default_rng(1)
        after = {zoo.COLUMN: column, zoo.FULL: full, zoo.GLOBAL: 900.0, zoo.BLIND: 5000.0, zoo.RECENT: 2000.0,
                 zoo.SLIDING: 1000.0}
        said = {"delay": 5, "false": 0}
        return [{name: {"after": value * rng.uniform(0.9, 1.1), **(said if name in zoo.CHANGES else {})}
                 for name, value in after.items()} for _ in range(10)]

    arms, criteria = zoo.from_change(found(100.0, 300.0), 8, 1600)
    assert decide(criteria) == "holds" and zoo.SLIDING in criteria[1].says
    assert decide(zoo.from_change(found(300.0, 100.0), 8, 1600)[1]) == "does not hold"
    assert [a.value.mean for a in arms if a.name == zoo.COLUMN and "rounds from" in a.metric] == [5.0]


def test_alarms_are_told_apart():
    system = with_change(random_sem(4, seed=0), columns=1, at=100, seed=0)
    truly = np.argwhere(np.stack([(b[0] != b[1]).any(0) for b in (system.B_SNN, system.B_prime_SNN)]))
    (side, n), other = truly[0], (int(truly[0][1]) + 1) % 4
    policy = CSLUCB(CSLOptions(detect="column"))
    policy.changes = [(0, 50, int(side), int(n)), (0, 110, int(side), other), (0, 130, int(side), int(n))]
    assert zoo._alarms(policy, system, 100) == {"delay": 30, "false": 2}


def test_rounds_saved_are_read_off_a_planted_curve():
    both = [{name: [[8.0 - 2 * i if name == zoo.CSL else 8.0 - i, 0.0, 0.0] for i in range(4)] for name in zoo.LEARNERS}
            for _ in range(3)]
    (saved,) = zoo.from_structure((50, 100, 150, 200), both, 8)[1]
    assert saved.value.mean == pytest.approx(1 - 125 / 200) and saved.verdict == "holds"


def test_a_unit_depends_on_its_index_alone():
    config = zoo.SYSTEM.scales["smoke"]
    one, same, other = (zoo.structure(config, Seeds(0), index=i) for i in (0, 0, 1))
    assert one == same != other
