from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout
from plaudit.zoo import heron, heron_text, heron_worlds
from plaudit.zoo.contract import load_result
from plaudit.zoo.lab import run_system

SMOKE = heron.SYSTEM.scales["smoke"]


@pytest.mark.slow  # sixteen small populations: 5 s, and three times that under the run-time check of shapes
def test_smoke_runs_and_writes_its_result(tmp_path: Path) -> None:
    result = run_system(heron.SYSTEM, scale="smoke", out=tmp_path)
    assert load_result(tmp_path / "heron.json").arms == result.arms
    units = [c for c in result.criteria if "units change in HERON" in c.says]
    assert [c.value.mean for c in units] == [0.0, 0.0], "invariance is exact at any size"
    assert (tmp_path / "heron.png").stat().st_size > 10_000


def test_one_arm_of_each_kind_trains_and_is_measured() -> None:
    tiny = replace(SMOKE, seeds=1, steps=(200, 200, 512), horizons=(10, 10, 10))
    found = heron_worlds.control(tiny, Seeds(0), world="Maze", arm="HERON")
    assert set(found) == {"return", "goal", "distance"} and len(found["return"]) == 1
    weights = list(heron.linear_weights(heron_worlds.WORLDS["Maze"]).values())
    assert len(heron_worlds.control(tiny, Seeds(0), world="Maze", arm="linear", weights=weights)["return"]) == 4
    wrote = heron_text.write(tiny, Seeds(0), arm="HERON")
    assert set(wrote) == {"hits", "parses", "length of hits"}


def test_the_grid_has_nine_points_and_the_truth_is_the_environments_own() -> None:
    place = heron_worlds.WORLDS["Pendulum"]
    table = heron.linear_weights(place)
    assert len(table) == 10 and table["true reward"] == [0, 0, 0, 1]
    task = place.make(20)
    played = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2]).replace(member=torch.tensor([0, 1]))
    factors = place.factors()
    paid = heron_worlds.WeightedFactors(factors, torch.tensor([[0.0, 0, 0, 1], [1.0, 0.1, 0.001, 0]]))(played)
    assert played.env_reward is not None
    assert torch.allclose(paid[0], played.env_reward[0])
    assert torch.allclose(paid[1, :-1], played.env_reward[1, 1:], atol=0.02), "next_obs is the next step's obs"


def test_other_units_change_what_a_sum_pays_and_nothing_of_a_ranking() -> None:
    place = heron_worlds.WORLDS["MountainCar"]
    task = place.make(30)
    played = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=range(20)).replace(
        member=torch.zeros(20, dtype=torch.int64))
    weights = torch.tensor([[1.0, 1.0, 1.0]])
    plain, other = (heron_worlds.WeightedFactors(place.factors(units=u), weights)(played) for u in ((), (1, 1e3, 1)))
    assert not torch.allclose(plain.argsort(0), other.argsort(0))


def test_the_distance_of_the_maze_is_the_shortest_way() -> None:
    world = heron_worlds.WORLDS["Maze"].make(40)
    ways = heron_worlds._ways()
    assert float(ways.max()) == 1.0 and int((ways == 0).sum()) == 1
    around = heron_worlds.MAZE.split("\n")
    assert len(around) == 16 and {len(r) for r in around} == {16}
    assert world.obs_space.shape == (heron_worlds.CELLS,)


def test_expressions_are_read_as_python_reads_them() -> None:
    for line in itertools.product(range(13), repeat=4):
        text = "".join(heron_text.TOKENS[t] for t in line)
        operators = any(c in "+-*" for c in text)
        plain = operators and not text.endswith(("+", "-", "*")) and text[0] not in "+-*" and not any(
            a in "+-*" and b in "+-*" for a, b in itertools.pairwise(text))
        found = heron_text.value_of(line)
        assert (found is not None) == plain, text
    assert heron_text.value_of([heron_text.TOKENS.index(c) for c in "2*3-4*5"]) == -14
    assert heron_text.value_of([]) is None


def test_the_factors_of_a_text() -> None:
    end = heron_text.END
    tokens = torch.tensor([[4, 12, 6, end, end, end, end], [2, 4, end, end, end, end, end], [4, 12, 12, 6, 1, 1, 1]])
    assert heron_text.read(tokens, 24).tolist() == [[1, 1, 3], [0, 0, 2], [0, 0, 7]]


def test_writers_are_led_to_what_is_paid() -> None:
    writers = heron_text.Writers([Seeds(s) for s in range(2)], hidden=16)
    before = (writers.write(200) == 7).float().mean((1, 2))
    for _ in range(30):
        tokens = writers.write(32)
        writers.improve(tokens, (tokens == 7).float().sum(-1), lr=0.02, entropy=0.0)
    assert bool(((writers.write(200) == 7).float().mean((1, 2)) > 3 * before + 0.1).all())


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="steps"):
        heron.HeronConfig(steps=(1, 2))
