from __future__ import annotations

import gymnasium
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.optimize.evolve.families import Lens, Network
from plaudit.optimize.rl.spaces import ActionMap, ObsEncoder
from plaudit.optimize.scripted import BangBang, Loop, Sticky, Together, scripted
from plaudit.tasks.classic import MountainCar
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

OBS = gymnasium.spaces.Box(-1.0, 1.0, (2,))


def scripts(space, **options):
    return scripted(space, Lens(ObsEncoder(OBS)), seed=0, **{"horizon": 200, **options})


@pytest.mark.parametrize("space", [gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(1),
                                   gymnasium.spaces.MultiDiscrete([2, 3]), gymnasium.spaces.Box(-2.0, 2.0, (1,)),
                                   gymnasium.spaces.Box(0.0, 1.0, (3,)), gymnasium.spaces.Box(-1.0, 1.0, (6,))])
def test_scripts_have_different_names_and_act_in_the_space(space) -> None:
    found = scripts(space)
    names = [name for name, _ in found]
    assert len(set(names)) == len(names)
    for _, policy in found:
        action, _ = policy.act(torch.zeros(3, 2), policy.start(3), step=5)
        assert action.shape == (3, *space.shape)
        assert all(space.contains(a.numpy().astype(space.dtype)) for a in action)


def test_every_choice_and_every_corner_is_held() -> None:
    assert {f"always action {a}" for a in range(4)} <= {n for n, _ in scripts(gymnasium.spaces.Discrete(4))}
    constant = [p for n, p in scripts(gymnasium.spaces.Box(-1.0, 1.0, (2,))) if n.startswith("always")]
    held = {tuple(p.act(torch.zeros(1, 2), 1, step=0)[0][0].tolist()) for p in constant}
    assert {(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)} | {(0.0, 0.0)} <= held


def test_fewer_scripts_keep_constants_and_a_spread_of_the_rest() -> None:
    names = [n for n, _ in scripts(gymnasium.spaces.Discrete(3), most=8)]
    assert len(names) == 8 and names[:3] == ["always action 0", "always action 1", "always action 2"]


def test_sticky_actions_are_held_and_those_of_a_row_are_its_own() -> None:
    sticky = Sticky(gymnasium.spaces.Box(-1.0, 1.0, (1,)), 3, hold=5)
    carry = sticky.start(2)
    actions = torch.stack([sticky.act(torch.zeros(2, 2), carry, step=t)[0] for t in range(10)])
    assert (actions[:5] == actions[0]).all() and (actions[5:] == actions[5]).all()
    assert actions[0, 0] != actions[0, 1] and actions[0, 0] != actions[5, 0]


def test_pushing_the_way_the_car_rolls_climbs_the_hill_and_pushing_always_right_does_not() -> None:
    task = MountainCar()
    pump = BangBang(Lens(ObsEncoder(task.obs_space)), 1, above=torch.tensor(2), below=torch.tensor(0))
    both = rollout(task, Together([pump, Loop(torch.tensor([2]))], each=4), seeds=[1, 2, 3, 4] * 2)
    arrived = both.info["is_success"].any(-1)
    assert arrived.tolist() == [True] * 4 + [False] * 4


def test_together_each_policy_acts_as_it_does_alone() -> None:
    lens = Lens(ObsEncoder(OBS))
    actions = ActionMap(gymnasium.spaces.Box(-1.0, 1.0, (1,)))
    family, other = Network(lens, actions), Network(lens, actions, hidden=3)
    generator = torch.Generator().manual_seed(0)
    policies = [family.policy(torch.randn(1, family.size, generator=generator)),
                RandomPolicy(gymnasium.spaces.Box(-1.0, 1.0, (1,)), seeds=7),
                family.policy(torch.randn(1, family.size, generator=generator)),
                other.policy(torch.randn(1, other.size, generator=generator)), Loop(torch.tensor([[0.5]]))]
    obs = torch.randn(10, 2, generator=generator)
    together = Together(policies, each=2)
    assert len(together.groups) == 4
    action, _ = together.act(obs, together.start(10), step=3)
    for i, policy in enumerate(policies):
        rows = slice(2 * i, 2 * i + 2)
        assert torch.equal(action[rows], policy.act(obs[rows], policy.start(2), step=3)[0])
    with pytest.raises(BadInput, match="2 for each policy"):
        together.start(8)
