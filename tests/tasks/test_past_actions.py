from __future__ import annotations

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.specify.soccer import Pitch
from plaudit.tasks import from_spec
from plaudit.tasks.car_soccer import CarSoccer
from plaudit.tasks.classic import CartPole, Pendulum
from plaudit.tasks.past_actions import PastActions
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout


def past_of(task, obs):
    """The numbers of the actions that an observation shows, -1 where there was none: [B, length]."""
    shown = obs[..., list(task.past)].unflatten(-1, (task.length, task.choices))
    return torch.where(shown.any(-1), shown.argmax(-1), -1)


def test_the_last_actions_are_seen_latest_first_and_forgotten_with_the_episode():
    task = PastActions(CartPole(), 3)
    plain, batch = CartPole().make(4), task.make(4)
    plain.reset(range(4))
    assert past_of(task, batch.reset(range(4))).eq(-1).all()
    history = [[-1] * 3 for _ in range(4)]
    ended = 0
    for t in range(60):
        action = torch.tensor([(t >> b) & 1 for b in range(4)])
        step, same = batch.step(action), plain.step(action)
        torch.testing.assert_close(step.next_obs[:, :4], same.next_obs, atol=0, rtol=0)
        torch.testing.assert_close(step.obs[:, :4], same.obs, atol=0, rtol=0)
        history = [[int(a), *h[:2]] for a, h in zip(action, history, strict=True)]
        assert past_of(task, step.next_obs).tolist() == history
        history = [[-1] * 3 if d else h for d, h in zip(step.done, history, strict=True)]
        assert past_of(task, step.obs).tolist() == history
        ended += int(step.done.sum())
    assert ended > 0


def test_it_goes_on_in_mid_episode_and_is_made_again_from_its_spec():
    task = from_spec(PastActions(CarSoccer(opponent="idle"), 2).spec())
    assert isinstance(task, PastActions) and task.task.opponent == "idle" and task.length == 2
    one, other = task.make(3), task.make(3)
    one.reset([1, 2, 3])
    one.step(torch.tensor([4, 5, 6]))
    other.reset([7, 8, 9])
    other.load_state_dict(one.state_dict())
    a, b = (x.step(torch.tensor([1, 2, 3])).next_obs for x in (one, other))
    torch.testing.assert_close(a, b, atol=0, rtol=0)
    assert past_of(task, a).tolist() == [[1, 4], [2, 5], [3, 6]]


def test_a_game_with_memory_is_still_a_game_and_can_be_rolled_out():
    task = PastActions(CarSoccer(), 5)
    assert Pitch.of(task).fields["past_actions"].columns == task.past
    e = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[0, 1], max_steps=8)
    assert past_of(task, e.obs[:, -1]).tolist() == e.action[:, 2:7].flip(1).tolist()


def test_what_has_no_choices_or_no_length_is_refused():
    for wrong in (lambda: PastActions(Pendulum(), 2), lambda: PastActions(CartPole(), 0)):
        with pytest.raises(BadInput):
            wrong()
