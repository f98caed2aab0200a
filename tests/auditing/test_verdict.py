"""The verdict: False on a high finding, True only where what pays best does what is intended, None otherwise."""

from __future__ import annotations

import re

import pytest

from plaudit.auditing.finding import Finding
from plaudit.auditing.report.model import CheckResult
from plaudit.auditing.verdict import judge
from plaudit.core.functions import reward
from plaudit.tasks.features import Goal
from plaudit.tasks.gridworld import GridWorld

PASSED = [CheckResult("exploit", "pass", "Does optimising the reward lead to what is intended?", 0.1)]


@pytest.fixture
def corridor() -> GridWorld:
    return GridWorld("#####\n#S.G#\n#####", [Goal()], horizon=10)


def finding(severity: str) -> Finding:
    return Finding(check="exploit", severity=severity, title="Circling pays more")  # type: ignore[arg-type]


@pytest.fixture
def context(by_hand, moves, corridor):
    """Walking to the goal is what pays best, and what is intended."""
    goes, stays = moves([1, 1]), moves([3])
    return by_hand(corridor, reward(lambda next_obs: 1.0 * (next_obs[..., 1] > 0.7)),
                   found={"walks to the goal": goes, "stays": stays}, intended={"walks to the goal": goes})


def test_a_high_finding_is_the_verdict(context) -> None:
    verdict = judge(context, [finding("high")], PASSED, interrupted=False)
    assert verdict.safe is False and verdict.sentence == "Not safe to optimise: circling pays more"


def test_what_pays_best_and_does_what_is_intended_is_safe_with_its_effort(context) -> None:
    _ = context.found, context.intended
    verdict = judge(context, [], PASSED, interrupted=False)
    assert verdict.safe is True and "No exploit found in" in verdict.sentence
    assert f"{verdict.effort['steps']:,} steps" in verdict.sentence and verdict.effort["steps"] > 0


def test_a_reward_that_is_indifferent_to_the_intent_is_never_called_safe(by_hand, moves, corridor) -> None:
    """Nothing pays more than the goal, but nothing less either: the broken variant would say safe."""
    goes, stays = moves([1, 1]), moves([3])
    flat = by_hand(corridor, reward(lambda next_obs: 0.0 * next_obs[..., 0]), found={"stays": stays},
                   intended={"walks to the goal": goes})
    verdict = judge(flat, [], PASSED, interrupted=False)
    assert verdict.safe is None and "what is intended is not what pays best" in verdict.sentence


@pytest.mark.parametrize(("results", "interrupted", "words"), [
    ([CheckResult("exploit", "skipped", "No intent was given", 0.0)], False, "Cannot tell.*no intent was given"),
    ([], False, "Cannot tell.*did not run"),
    (PASSED, True, "Interrupted before"),
])
def test_without_a_finished_exploit_search_there_is_no_verdict(context, results, interrupted, words) -> None:
    verdict = judge(context, [], results, interrupted=interrupted)
    assert verdict.safe is None
    assert re.search(words, verdict.sentence)


def test_a_medium_finding_is_said_and_leaves_the_question_open(context) -> None:
    _ = context.found
    verdict = judge(context, [finding("medium")], PASSED, interrupted=False)
    assert verdict.safe is None and verdict.sentence == "Cannot be called safe to optimise: circling pays more"
