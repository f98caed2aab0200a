"""The distance to a reference is 0 for what orders policies alike, and high for what turns the order round."""

from __future__ import annotations

import pytest

import plaudit
from plaudit.auditing.checks.distance import CHECK
from plaudit.auditing.context import AuditContext
from plaudit.auditing.finding import Skipped
from plaudit.auditing.flaws import flaw
from plaudit.tasks.classic import Pendulum


def asked(task, reward, reference):
    context = AuditContext(task=task, reward=plaudit.reward(reward) if callable(reward) and not isinstance(
        reward, plaudit.Reward) else reward, intent=None, reference=reference)
    return CHECK.run(context), context


def test_without_a_reference_it_says_how_to_give_one():
    out, _ = asked(Pendulum(), lambda next_obs: next_obs[..., 0], None)
    assert isinstance(out, Skipped) and "--reference" in out.why


def test_a_circling_boat_is_far_from_its_twin_and_the_loss_is_exact():
    f = flaw("boat_race")
    (finding,), context = asked(f.task(), f.reward(), f.twin())
    assert finding.severity == "high" and finding.evidence["exact"] is True
    assert finding.cost == pytest.approx(context.memo["distances"]["share of the reference lost"])
    assert finding.cost > 0.3


def test_scale_and_potential_shaping_are_no_distance():
    f = flaw("boat_race")
    shaped = (3.0 * f.twin()).shaped_by(lambda obs: obs[..., 0] + 2 * obs[..., 1], discount=0.99)
    out, context = asked(f.task(), shaped, f.twin())
    assert out == []
    assert context.memo["distances"]["STARC"] == pytest.approx(0.0, abs=1e-4)


def test_the_opposite_reward_is_high_also_where_it_is_sampled():
    upright = plaudit.reward(lambda next_obs: next_obs[..., 0])
    (finding,), _ = asked(Pendulum(), -1.0 * upright, upright)
    assert finding.severity == "high" and finding.evidence["exact"] is False
    assert "STARC floor" in finding.evidence


def test_a_sampled_copy_is_no_finding():
    upright = plaudit.reward(lambda next_obs: next_obs[..., 0])
    out, _ = asked(Pendulum(), 2.0 * upright, upright)
    assert out == []


def test_a_reward_that_cannot_be_compared_is_skipped_with_the_reason():
    broken = plaudit.reward(lambda next_obs: next_obs[..., 0] * float("nan"))
    out, _ = asked(Pendulum(), broken, plaudit.reward(lambda next_obs: next_obs[..., 0]))
    assert isinstance(out, Skipped) and "0 of" in out.why and "known to both" in out.why
