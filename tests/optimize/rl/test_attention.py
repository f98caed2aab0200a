"""Policies that attend: the order of things, members on their own, the textbook's formula, PPO on a game."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.optimize import PPOConfig, Trained, train
from plaudit.optimize.rl.attention import HEADS, PopulationAttention
from plaudit.optimize.rl.auxiliary_heads import RewardPrediction, StateReconstruction
from plaudit.tasks.car_soccer import CarSoccer
from plaudit.tasks.entities import Entities, Kind
from plaudit.tasks.past_actions import PastActions
from plaudit.tasks.rocket import COLUMNS, RocketLeague

# two that look (columns 0, 1), three rocks of two numbers, two lamps of one number with a place that never changes
ROCKS, LAMPS, PLACES = ((2, 3), (4, 5), (6, 7)), ((8,), (9,)), ((0.5, -1.0), (-0.5, 1.0))
WORLD = Entities((0, 1), {"rocks": Kind(ROCKS), "lamps": Kind(LAMPS, PLACES)})
SIZES = (10, 16, 12, 3)


def net_of(members, entities=WORLD, **options):
    return PopulationAttention(SIZES, entities=entities, generators=[Seeds(p).torch() for p in members], **options)


def rows(P, N=7, D=10, seed=0):
    return torch.randn(P, N, D, generator=torch.Generator().manual_seed(seed))


def test_the_order_of_things_of_a_kind_changes_nothing():
    net, x = net_of(range(3)), rows(3)
    other = x.clone()
    other[..., [2, 3, 4, 5, 6, 7]] = x[..., [6, 7, 2, 3, 4, 5]]
    torch.testing.assert_close(net(other), net(x))
    listed = Entities((0, 1), {"rocks": Kind(ROCKS[::-1]), "lamps": Kind(LAMPS[::-1], PLACES[::-1])})
    torch.testing.assert_close(net_of(range(3), listed)(x), net(x))


def test_what_is_not_interchangeable_is_not_interchanged():
    net, x = net_of(range(3)), rows(3)
    lamps, broken, query = x.clone(), x.clone(), x.clone()
    lamps[..., [8, 9]] = x[..., [9, 8]]  # each lamp has its own place
    broken[..., [2, 3, 4, 5]] = x[..., [4, 3, 2, 5]]  # half of one rock for half of another
    query[..., [0, 1]] = x[..., [1, 0]]
    for other in (lamps, broken, query):
        assert not torch.allclose(net(other), net(x), atol=1e-3)


def test_it_is_cross_attention_with_one_query_as_in_the_textbook():
    net, x = net_of(range(2)), rows(2)
    for p in range(2):
        part = {name: value[p] for name, value in net.named().items()}

        def embed(seen, name, part=part):
            return torch.tanh(seen @ part[f"embed_{name}"] + part[f"offset_{name}"])

        query = embed(x[p][:, :2], "query")
        rocks = torch.stack([embed(x[p][:, list(c)], "kind_0") for c in ROCKS], 1)
        lamps = torch.stack([embed(torch.cat([x[p][:, list(c)], torch.tensor(at).expand(7, 2)], 1), "kind_1")
                             for c, at in zip(LAMPS, PLACES, strict=True)], 1)
        things = torch.cat([rocks, lamps], 1)
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (
            (query @ part["attend_query"]).unsqueeze(1), things @ part["attend_key"], things @ part["attend_value"]))
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1)
        y = torch.cat([query, found], -1)
        for i in range(3):
            y = y @ part[f"weight_{i}"] + part[f"bias_{i}"]
            y = torch.tanh(y) if i < 2 else y
        torch.testing.assert_close(net(x)[p], y)


def test_a_member_is_what_it_is_alone_and_gets_its_own_gradient():
    net, x = net_of([3, 5, 8]), rows(3)
    net(x).square().sum().backward()
    for p, seed in enumerate([3, 5, 8]):
        alone = net_of([seed])
        alone(x[p:p + 1]).square().sum().backward()
        torch.testing.assert_close(alone.flat[0], net.flat[p], atol=0, rtol=0)
        torch.testing.assert_close(alone(x[p:p + 1])[0], net(x)[p])
        torch.testing.assert_close(alone.flat.grad[0], net.flat.grad[p])
    torch.testing.assert_close(net.select([1])(x[1:2])[0], net(x)[1])


def test_gradients_reach_every_parameter_and_match_finite_differences():
    net = net_of([0])
    x = rows(1, N=4).double()
    flat = net.flat.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: net(x, w), (flat,), atol=1e-5)
    net(rows(1)).square().sum().backward()
    for name, part in net.named(net.flat.grad).items():
        assert bool((part != 0).any()), name


def test_games_name_each_of_their_numbers_once_and_the_agent_knows_what_it_did():
    for task in (CarSoccer(), CarSoccer(observation="simple"), PastActions(CarSoccer(), 2)):
        e = task.entities
        used = [*e.query, *(c for k in e.kinds.values() for thing in k.columns for c in thing)]
        assert sorted(used) == list(range(task.obs_space.shape[0]))
    assert set(PastActions(CarSoccer(), 2).past) <= set(PastActions(CarSoccer(), 2).entities.query)
    e = RocketLeague().entities
    assert sorted([*e.query, *(c for k in e.kinds.values() for thing in k.columns for c in thing)]) == list(
        range(sum(map(len, COLUMNS.values()))))


ATTENDS = PPOConfig(num_envs=4, rollout=32, epochs=2, hidden=(16, 16), network="attention")


def test_ppo_trains_a_population_that_attends_each_as_alone(tmp_path):
    both = train("ppo", CarSoccer(horizon=40), population=2, steps=256, config=ATTENDS, progress=False, out=tmp_path)
    alone = train("ppo", CarSoccer(horizon=40), population=[1], steps=256, config=ATTENDS, progress=False)
    assert type(both.actor.net) is PopulationAttention
    torch.testing.assert_close(both.actor.net.flat[1], alone.actor.net.flat[0], atol=1e-5, rtol=1e-4)
    again = Trained.load(tmp_path)
    torch.testing.assert_close(again.actor.net.flat, both.actor.net.flat, atol=0, rtol=0)


def test_auxiliaries_share_the_layers_that_attend():
    heads = [StateReconstruction(weight=0.1), RewardPrediction(weight=0.1)]
    trained = train("ppo", PastActions(CarSoccer(horizon=40), 2), steps=128, config=ATTENDS, progress=False,
                    auxiliaries=heads)
    assert trained.steps == 128


def test_where_it_cannot_be_used_it_says_why():
    with pytest.raises(Unsupported, match="not plain perceptrons"):
        train("ppo", CarSoccer(), steps=128, progress=False,
              config=PPOConfig(num_envs=4, rollout=32, network="attention", engine="fused"))
    with pytest.raises(BadInput, match="entities"):
        train("ppo", "CartPole-v1", steps=128, config=ATTENDS, progress=False)
    with pytest.raises(BadInput, match="multiple of 4"):
        train("ppo", CarSoccer(), steps=128, progress=False,
              config=PPOConfig(num_envs=4, rollout=32, network="attention", hidden=(30, 16)))
    with pytest.raises(BadInput, match="columns 0 ... 4"):
        PopulationAttention((5, 16, 2), entities=WORLD, generators=[Seeds(0).torch()])
    for wrong in (lambda: Kind(()), lambda: Kind(((1, 2), (3,))), lambda: Kind(((1,), (2,)), ((0.5,),))):
        with pytest.raises(BadInput):
            wrong()
