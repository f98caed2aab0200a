"""All episodes of an audit are equally long: returns of different lengths cannot be compared."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import plaudit
from plaudit.auditing import audit as audit_module
from plaudit.auditing.checks.outcomes import outcome
from plaudit.auditing.checks.ranking import again
from plaudit.auditing.effort import default_steps
from plaudit.core.needs import Needs

LENGTH = 300


class Rails(gymnasium.Env):
    """A cart on rails that pays 1 a step wherever it is, so that a whole episode pays exactly its length."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.x += float(np.clip(action[0], -1, 1))
        return np.array([self.x], np.float32), 1.0, False, False, {"place": self.x}


def rails(limit: int = LENGTH) -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Rails(), limit)


@plaudit.reward
def to_the_right(obs, next_obs):
    return next_obs[..., 0] - obs[..., 0]


def watched(monkeypatch: pytest.MonkeyPatch, **options):
    """A report, and the context that it was made of."""
    seen, real = [], audit_module.judge

    def judge(context, *args, **kwargs):
        seen.append(context)
        return real(context, *args, **kwargs)

    monkeypatch.setattr(audit_module, "judge", judge)
    report = audit_module.audit(to_the_right, env=rails, only=["exploit"], repair=False, **options)
    return report, seen[0]


@pytest.mark.parametrize("intent", ["env", "info:place"])
def test_searches_random_actions_and_confirmations_play_equally_long(monkeypatch, intent) -> None:
    """A small budget affords 5/6 of the reward's search that it affords of the intent's, and a part of an episode."""
    report, context = watched(monkeypatch, intent=intent, steps=20_000)
    assert 20 < context.horizon < LENGTH
    played = [context.random, *(b.episodes for b in context.behaviours)]
    played += [o.behaviour.episodes for b in context.behaviours if (o := again(context, outcome(context, b)))]
    assert {int(n) for e in played for n in e.lengths} == {context.horizon}
    assert report.verdict.effort["episodes cut after"] == context.horizon
    assert f"cut after {context.horizon} of {LENGTH} steps" in report.verdict.sentence
    assert report.verdict.safe is not True


def test_what_is_paid_for_each_step_is_worth_the_same_to_all(monkeypatch) -> None:
    """The mean over episodes of different lengths was no episode's return."""
    _, context = watched(monkeypatch, intent="env", steps=20_000)
    assert {float(x) for b in context.behaviours for x in context.meant(b)} == {float(context.horizon)}


def test_the_default_effort_plays_long_episodes_whole(monkeypatch) -> None:
    task = plaudit.make(rails)
    steps = default_steps(task, Needs())
    assert steps > default_steps(plaudit.make(rails, limit=100), Needs())
    report, context = watched(monkeypatch, intent="info:place", steps=steps)
    assert context.horizon == LENGTH == int(context.found.behaviours[0].episodes.lengths.max())
    assert "cut after" not in report.verdict.sentence


def test_an_environment_without_a_limit_is_played_as_long_as_the_effort_allows(monkeypatch) -> None:
    with pytest.warns(UserWarning, match="no time limit"):
        report = audit_module.audit(to_the_right, env=Rails, intent="info:place", only=["exploit"], steps=20_000,
                                    repair=False)
    assert "the environment names no limit" in report.verdict.sentence
    assert report.verdict.safe is None and report.verdict.sentence.startswith("Cannot tell"), "a part was looked at"


class Short(Rails):
    """Ends after 20 steps, long before the limit."""

    def reset(self, *, seed=None, options=None):
        self.n = 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.n += 1
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.n == 20, False, info


def short() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Short(), LENGTH)


def test_episodes_that_end_by_themselves_are_not_called_cut() -> None:
    report = audit_module.audit(to_the_right, env=short, intent="info:place", only=["exploit"], steps=20_000,
                                repair=False)
    assert "cut after" not in report.verdict.sentence
