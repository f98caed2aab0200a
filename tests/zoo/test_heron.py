from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput, Unsupported
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
    assert set(found) == {"return", "goal", "distance", "return, changed"} and len(found["return"]) == 1
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


TINY = replace(SMOKE, seeds=1, steps=(512, 200, 512), horizons=(10, 10, 10), changed=())


@pytest.mark.parametrize(("world", "algo"), [
    ("Pendulum", "td3"), ("Pendulum", "ddpg"), ("Pendulum", "ppo"), ("MountainCar", "sac"), ("Maze", "dqn")])
def test_agents_learn_by_other_algorithms(world: str, algo: str) -> None:
    algos = tuple(algo if w == world else a for w, a in zip(heron_worlds.WORLDS, TINY.algos, strict=True))
    found = heron_worlds.control(replace(TINY, algos=algos), Seeds(0), world=world, arm="HERON")
    assert len(found["return"]) == 1 and "return, changed" not in found


def test_margins_factors_and_standards_are_those_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, Any]] = []

    class Looks(heron_worlds.PreferenceLoop):
        def __init__(self, reward: Any, annotator: Any, **options: Any) -> None:
            super().__init__(reward, annotator, **options)
            seen.append((annotator, self.trainer.config.standardise))

    monkeypatch.setattr(heron_worlds, "PreferenceLoop", Looks)
    few_factors = replace(TINY, factors=(2, 2, 2, 2), margins=((0.5, 0.25),) * 4, standardise=("none",) * 4)
    default = heron.HeronConfig()
    as_ever = replace(TINY, margins=default.margins, factors=default.factors, standardise=default.standardise)
    for config in (few_factors, as_ever):
        heron_worlds.control(config, Seeds(0), world="Pendulum", arm="HERON, reversed")
    (few, none), (all_, mean) = seen
    assert [(f.name, f.margin) for f in few.factors] == [("velocity", 0.25), ("angle", 0.5)] and none == "none"
    assert [(f.name, f.margin) for f in all_.factors] == [("torque", 1), ("velocity", 1), ("angle", 1)]
    assert mean == "mean"


def test_fewer_factors_make_a_smaller_grid() -> None:
    table = heron.linear_weights(heron_worlds.WORLDS["Pendulum"], 2)
    assert len(table) == 4 and table["true reward"] == [0, 0, 1]
    wrote = heron_text.write(replace(TINY, factors=(3, 3, 2, 2), margins=heron.HeronConfig().margins), Seeds(0),
                             arm="linear", weights=[[1.0, 0.1], [1.0, 0.0]])
    assert len(wrote["hits"]) == 2


def test_a_changed_world_is_harder_and_its_actions_cost_what_they_did() -> None:
    worlds = heron_worlds.WORLDS
    one = torch.ones(1, 1)

    def pushed(task: Any, steps: int) -> tuple[float, float]:
        batch = task.make(1)
        batch.reset([0])
        moves = [batch.step(one) for _ in range(steps)]
        return float(moves[-1].next_obs[0, 0]), float(moves[0].env_reward[0])

    own, weak, same = (pushed(t, 10) for t in (worlds["MountainCar"].make(50), worlds["MountainCar"].changed(50, 0.5),
                                               worlds["MountainCar"].changed(50, 1.0)))
    assert own == same and weak[0] < own[0] and weak[1] == own[1] == pytest.approx(-0.1)
    assert worlds["Pendulum"].changed(50, 13.0).g == 13.0  # type: ignore[attr-defined]
    assert worlds["Maze"].changed(50, 0.1).slip == 0.1  # type: ignore[attr-defined]
    with pytest.raises(Unsupported):
        worlds["MountainCar"].changed(50, 0.5).spec()


def test_agents_are_judged_elsewhere_after_they_have_learnt() -> None:
    tiny = replace(TINY, changed=(10.0, 1.0, 0.0))
    weights = list(heron.linear_weights(heron_worlds.WORLDS["MountainCar"]).values())[-2:]
    there = heron_worlds.control(tiny, Seeds(0), world="MountainCar", arm="linear", weights=weights)
    assert there["return, changed"] == there["return"], "nothing was changed"
    weak = heron_worlds.control(replace(tiny, changed=(10.0, 0.2, 0.0), horizons=(10, 60, 10)), Seeds(0),
                                world="Maze", arm="HERON, reversed")
    assert "return, changed" not in weak


@pytest.mark.parametrize(("wrong", "named"), [
    ({"steps": (1, 2)}, "steps"), ({"changed": (13.0,)}, "changed"), ({"algos": ("sac", "sac", "sac")}, "Maze"),
    ({"algos": ("dqn", "sac", "ppo")}, "Pendulum"), ({"factors": (3, 3, 2)}, "texts"),
    ({"factors": (1, 3, 2, 3)}, "2 factors or more"), ({"factors": (3, 3, 3, 3)}, "2 factors or more"),
    ({"margins": ((1.0,),) * 4}, "margins"), ({"standardise": ("mean",)}, "standardise")])
def test_options_that_do_not_fit_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        heron.HeronConfig(**wrong)
