"""What is wanted is read from text or found in info, and refused where it can never be known."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

from plaudit.auditing.intent import Accumulated, check_intent, find_intent, info_intent, parse_intent
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward, reward


def lake(values: list[list[float]], **info) -> Episodes:
    """Episodes whose next observation is given, padded with a mask."""
    T = max(map(len, values))
    next_obs = torch.tensor([v + [0.0] * (T - len(v)) for v in values]).unsqueeze(-1)
    mask = torch.tensor([[t < len(v) for t in range(T)] for v in values])
    no = torch.zeros_like(mask)
    return Episodes(obs=torch.zeros_like(next_obs), action=torch.zeros(mask.shape), next_obs=next_obs, terminated=no,
                    truncated=no, mask=mask, env_reward=next_obs[..., 0],
                    info={k: torch.as_tensor(v) for k, v in info.items()})


ROWS = [[1.0, 2.0, -1.0], [-3.0, -2.0], [0.0]]


@pytest.mark.parametrize(("reduce", "numbers"), [
    ("sum", [2.0, -5.0, 0.0]), ("last", [-1.0, -2.0, 0.0]), ("max", [2.0, -2.0, 0.0]), ("any", [1.0, 0.0, 0.0])])
def test_the_four_ways_from_steps_to_an_episode(reduce, numbers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wanted.py").write_text("def far(next_obs):\n    return next_obs[..., 0]\n")
    intent = parse_intent(f"wanted.py:far:{reduce}")
    assert intent.of(lake(ROWS)).tolist() == numbers and intent.reduce == reduce
    assert intent.as_reward().score(lake(ROWS)).returns()[0].tolist() == pytest.approx(numbers)


@pytest.mark.parametrize("how", ["last", "max", "any"])
def test_the_intent_as_a_reward_streams_to_the_same_return(how):
    values = [list(v) for v in itertools.product([-1.0, 0.0, 2.0], repeat=3)]
    episodes, inner = lake(values), reward(lambda next_obs: next_obs[..., 0])
    paying = Accumulated(inner, how)
    carry, paid = paying.start(episodes.B), torch.zeros(episodes.B)
    for t in range(episodes.T):
        score, carry = paying.stream(episodes.steps(t, t + 1), carry)
        paid += score.value[:, 0]
    assert torch.allclose(paid, paying.score(episodes).returns()[0])
    assert list(score.terms) == list(paying.score(episodes).terms)
    restarted = paying.restart(carry, torch.ones(episodes.B, dtype=torch.bool))
    again, _ = paying.stream(episodes.steps(0, 1), restarted)
    assert torch.equal(again.value, paying.stream(episodes.steps(0, 1), paying.start(episodes.B))[0].value)


def test_env_and_info_are_read():
    assert isinstance(parse_intent("env").per_step, EnvReward)
    e = lake(ROWS, x=[[1.0, 2.0, 3.0], [4.0, 5.0, 0.0], [6.0, 0.0, 0.0]],
             is_success=[[False, True, False], [False, False, False], [True, False, False]])
    assert parse_intent("info:x").of(e).tolist() == [3.0, 5.0, 6.0]
    assert parse_intent("info:x:max").of(e).tolist() == [3.0, 5.0, 6.0]
    assert parse_intent("info:is_success").of(e).tolist() == [1.0, 0.0, 1.0]
    found = find_intent(e)
    assert found is not None and found.found and found.reduce == "any"
    assert find_intent(lake(ROWS, x=[[1.0] * 3] * 3)) is None


def test_an_unknown_step_makes_the_intent_unknown_unless_it_cannot_change_it():
    e = lake([[1.0, 0.0], [0.0, 0.0]], solved=[[1.0, float("nan")], [0.0, float("nan")]])
    assert info_intent("solved").of(e)[0] == 1.0 and info_intent("solved").of(e)[1].isnan()


@pytest.mark.parametrize(("text", "expected"), [
    ("", "received"), ("x", "file.py:name"), ("info:", "info:KEY"), ("info:x:mean", "mean is none of sum, last"),
    ("a.py:f:sum:sum", "none of"),
    ("env:median", "info:KEY.* or env, received env:median; there is no module env; env alone"),
    ("nobody:median", "info:KEY.* or env, received nobody:median; there is no module nobody"),
    ("rewards.py", "intent: expected a name in the file.*rewards.py; check the path"),
    ("nope.py:f", "intent: expected a file that exists"),
    ("math:pi", "a function or a Reward"), ("fractions:Fraction", "a function or a Reward")])
def test_what_is_no_intent_is_refused(text, expected):
    with pytest.raises(BadInput, match=expected):
        parse_intent(text)


def test_a_module_may_be_called_env(tmp_path, monkeypatch):
    (tmp_path / "env.py").write_text("def goal(obs):\n    return 1.0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "env", raising=False)
    try:
        assert parse_intent("env:goal").statement == "a high total goal"
        assert parse_intent("env:goal:max").reduce == "max"
    finally:
        sys.modules.pop("env", None)


def test_an_entry_that_is_never_reported_is_refused_with_those_that_are():
    e = lake(ROWS, x_position=[[1.0] * 3] * 3, speed=[[1.0] * 3] * 3)
    with pytest.raises(BadInput, match="did you mean info:x_position. it reports speed, x_position"):
        check_intent(info_intent("x_pos"), e)
    with pytest.raises(BadInput, match="no numbers at all"):
        check_intent(info_intent("x_pos"), lake(ROWS))
    check_intent(info_intent("speed"), e)


def test_an_intent_that_is_unknown_everywhere_is_refused_with_its_reason():
    def broken(obs):
        raise KeyError("depth")

    from plaudit.auditing.intent import Intent

    with pytest.raises(BadInput, match="depth"):
        check_intent(Intent("broken", "broken", reward(broken), "sum"), lake(ROWS))
